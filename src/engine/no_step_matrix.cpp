#include "engine/step_matrix.h"

namespace baton::engine {

std::optional<std::uint64_t> step_copy_bytes(model::TensorType, std::int64_t, std::int64_t) { return std::nullopt; }

std::unique_ptr<const StepMatrix> make_step_matrix(model::TensorType, std::int64_t, std::int64_t, ByteSpan) {
  return nullptr;
}

}  // namespace baton::engine
