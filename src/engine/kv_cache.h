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
#include "engine/layer_rows.h"
#include "model/kv_rows.h"

namespace baton::engine {

// Cells are numbered as in CellPool, those of layers that keep a window in a pool of their own. ensure() belongs to the
// executor thread; the rest may be called from any thread for layers that exist (holds), on cells that nobody else
// writes meanwhile.
class KvCache {
 public:
  // Call once, before all else; `device` must outlive the cache. kUnsupported where the heads do not fit the cache
  // type's blocks, kNoCapacity where the device is smaller than the cells of the layers `held`.
  Result<void> open(const GgmlDevice& device, const model::ModelShape& shape, CacheType type,
                    const model::KvDemand& demand, LayerRange held);

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
  // Everything but writing the tokens.
  void prepare(std::uint32_t layer, const LayerRows::Preparation& preparation);

 private:
  struct Layer {
    KvLayout layout;
    GgmlContext context;
    GgmlBuffer buffer;
    ggml_tensor* k = nullptr;
    ggml_tensor* v = nullptr;
    std::uint32_t cells = 0;
    std::atomic<bool> ready = false;
  };

  void clear(std::uint32_t layer, LayerRows::Cells cells);
  void move_down(ggml_tensor* rows, std::uint64_t row_bytes, LayerRows::Cells from, std::uint64_t to) const;

  const GgmlDevice* device_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace baton::engine
