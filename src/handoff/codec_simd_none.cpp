#include "handoff/codec_kernels.h"

namespace baton::handoff::kernels {

std::vector<const Kernels*> simd() { return {}; }

}  // namespace baton::handoff::kernels
