#include "engine/memory_need.h"

#include <algorithm>

#include "model/kv_rows.h"

namespace baton::engine {

double kv_bytes_per_value(CacheType type) {
  // Q8_0: blocks of 32 values with a scale of 2 bytes.
  return type == CacheType::kF16 ? 2.0 : 34.0 / 32;
}

std::uint64_t memory_need_bytes(const Model& model, const EngineOptions& options) {
  std::uint64_t bytes = 0;
  for (const model::TensorInfo& tensor : model.file().tensors()) bytes += tensor.bytes;
  const model::KvDemand demand{.context_tokens = options.context_tokens,
                               .max_chunk_tokens = options.max_chunk_tokens,
                               .sequences = options.sequences};
  const LayerRange layers = options.layers.value_or(LayerRange{0, model.shape().layer_count});
  return bytes + static_cast<std::uint64_t>(
                     model::kv_bytes(model.shape(), layers, demand, kv_bytes_per_value(options.cache_type)));
}

std::uint64_t held_bytes(const EngineStats& stats) {
  return stats.mapped_weight_bytes + stats.copied_weight_bytes + stats.repacked_weight_bytes +
         stats.packed_weight_bytes + stats.kv_bytes + stats.compute_bytes;
}

std::optional<std::uint64_t> free_device_bytes(const DeviceInfo& device) {
  const auto devices = list_devices();
  const auto found = std::ranges::find(devices, device.name, &DeviceInfo::name);
  if (found == devices.end() || found->memory_total_bytes == 0) return std::nullopt;
  return found->memory_free_bytes;
}

}  // namespace baton::engine
