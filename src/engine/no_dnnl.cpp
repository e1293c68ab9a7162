// For builds without oneDNN: ggml computes everything.
#include "engine/attention_kernel.h"
#include "engine/kernel_matrix.h"

namespace baton::engine {

bool has_kernels(const MatrixForm& /*form*/) { return false; }
std::uint64_t packed_bytes(const MatrixForm& /*form*/) { return 0; }

Result<std::unique_ptr<const KernelMatrix>> make_kernel_matrix(const MatrixForm& /*form*/, const void* /*weights*/,
                                                               const float* /*scales*/) {
  return fail(ErrorCode::kUnsupported, "this build has no oneDNN");
}

std::shared_ptr<const AttentionKernel> find_attention_kernel(const AttentionForm& /*form*/) { return nullptr; }

}  // namespace baton::engine
