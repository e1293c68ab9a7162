// The KV cache: per layer one K and one V tensor, [width, cells], token after token; or one tensor of latent rows.
// Private to the engine room.
#pragma once

#include <atomic>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/layer_range.h"
#include "engine/engine.h"
#include "engine/ggml_device.h"

namespace baton::engine {

// Cells are numbered as in CellPool. ensure() belongs to the executor thread; the rest may be called from any thread
// for layers that exist (holds), on cells that nobody else writes meanwhile.
class KvCache {
 public:
  // Call once, before all else; `device` must outlive the cache. kUnsupported where the heads do not fit the cache
  // type's blocks, kNoCapacity where the device is smaller than the cells of the held layers.
  Result<void> open(const GgmlDevice& device, const model::ModelShape& shape, CacheType type, std::uint32_t cells,
                    LayerRange held_layers);

  // Makes the layers' tensors, zeroed.
  Result<void> ensure(LayerRange layers);
  bool holds(std::uint32_t layer) const { return layer < layers_.size() && layers_[layer].ready; }

  const KvLayout& layout(std::uint32_t layer) const { return layers_[layer].layout; }
  // nullptr where the layer has no such rows.
  ggml_tensor* k(std::uint32_t layer) const { return layers_[layer].k; }
  ggml_tensor* v(std::uint32_t layer) const { return layers_[layer].v; }
  std::uint64_t bytes() const { return bytes_; }

  std::optional<KvView> view(std::uint32_t layer, std::uint64_t first_cell, std::uint32_t count) const;
  void read(std::uint32_t layer, std::uint64_t first_cell, std::span<std::byte> k, std::span<std::byte> v) const;
  void write(std::uint32_t layer, std::uint64_t first_cell, ByteSpan k, ByteSpan v);
  void clear(std::uint32_t layer, std::uint64_t first_cell, std::uint32_t count);

 private:
  struct Layer {
    KvLayout layout;
    GgmlContext context;
    GgmlBuffer buffer;
    ggml_tensor* k = nullptr;
    ggml_tensor* v = nullptr;
    std::atomic<bool> ready = false;
  };

  const GgmlDevice* device_ = nullptr;
  std::uint32_t cells_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace baton::engine
