// What a sequence's layers with a state remember: one tensor of numbers each. Private to the engine room.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "engine/ggml_device.h"
#include "model/shape.h"

namespace baton::engine {

// Layers are apart: two threads may use two of them at once. `device` must outlive the calls, not the object.
class SequenceStates {
 public:
  explicit SequenceStates(std::size_t layers) : layers_(layers) {}

  // Makes the layer's state, zeroed: that of a text without tokens. Once; again it does nothing. kNoCapacity.
  Result<void> ensure(const GgmlDevice& device, const model::ModelShape& shape, std::uint32_t layer);
  bool holds(std::uint32_t layer) const { return layers_[layer].tensor != nullptr; }
  // F32 [state width].
  ggml_tensor* tensor(std::uint32_t layer) const { return layers_[layer].tensor; }

  // The tokens it stands for; nothing while a pass changes it, and where one failed.
  std::optional<std::uint32_t> position(std::uint32_t layer) const { return layers_[layer].position; }
  void set_position(std::uint32_t layer, std::optional<std::uint32_t> position) { layers_[layer].position = position; }

  void clear(std::uint32_t layer);
  void read(std::uint32_t layer, std::span<std::byte> state) const;
  void write(std::uint32_t layer, ByteSpan state);

 private:
  struct Layer {
    GgmlContext context;
    GgmlBuffer buffer;
    ggml_tensor* tensor = nullptr;
    std::optional<std::uint32_t> position = 0;
  };
  std::vector<Layer> layers_;
};

}  // namespace baton::engine
