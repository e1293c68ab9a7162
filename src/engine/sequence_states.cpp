#include "engine/sequence_states.h"

#include <format>

namespace baton::engine {

Result<void> SequenceStates::ensure(const GgmlDevice& device, const model::ModelShape& shape, std::uint32_t index) {
  Layer& layer = layers_[index];
  const std::uint32_t width = shape.layers[index].memory.state_width;
  if (width == 0 || layer.tensor != nullptr) return {};
  GgmlContext context = make_context(1);
  ggml_tensor* tensor = ggml_new_tensor_1d(context.get(), GGML_TYPE_F32, width);
  layer.buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(context.get(), device.memory()));
  if (layer.buffer == nullptr) {
    return fail(ErrorCode::kNoCapacity, std::format("no memory for a sequence's state in layer {}", index));
  }
  ggml_backend_buffer_clear(layer.buffer.get(), 0);
  layer.context = std::move(context);
  layer.tensor = tensor;
  return {};
}

void SequenceStates::clear(std::uint32_t layer) {
  ggml_tensor* state = tensor(layer);
  ggml_backend_tensor_memset(state, 0, 0, ggml_nbytes(state));
  set_position(layer, 0);
}

void SequenceStates::read(std::uint32_t layer, std::span<std::byte> state) const {
  ggml_backend_tensor_get(tensor(layer), state.data(), 0, state.size());
}

void SequenceStates::write(std::uint32_t layer, ByteSpan state) {
  ggml_backend_tensor_set(tensor(layer), state.data(), 0, state.size());
}

}  // namespace baton::engine
