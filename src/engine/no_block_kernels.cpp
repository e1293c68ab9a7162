// For processors that these kernels are not written for.
#include "engine/block_kernels.h"

namespace baton::engine {

const BlockKernels* find_block_kernels(CodeWidth /*width*/) { return nullptr; }

}  // namespace baton::engine
