#include "engine/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <format>

namespace baton::engine {

namespace {

ggml_type tensor_type(CacheType type) { return type == CacheType::kQ8_0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16; }

}  // namespace

std::string_view cache_type_name(CacheType type) { return type == CacheType::kQ8_0 ? "q8_0" : "f16"; }

Result<CacheType> parse_cache_type(std::string_view name) {
  for (const CacheType type : {CacheType::kF16, CacheType::kQ8_0}) {
    if (cache_type_name(type) == name) return type;
  }
  return fail(ErrorCode::kInvalidArgument, std::format("'{}' is no cache type; there are f16 and q8_0", name));
}

Result<void> KvCache::open(const GgmlDevice& device, const model::ModelShape& shape, CacheType type,
                           const model::KvDemand& demand, LayerRange held) {
  const ggml_type element = tensor_type(type);
  const auto block = static_cast<std::uint32_t>(ggml_blck_size(element));
  if (shape.key_head_width % block != 0 || shape.value_head_width % block != 0) {
    return fail(ErrorCode::kUnsupported,
                std::format("heads of {} elements do not fit a {} cache's blocks of {}; use f16", shape.key_head_width,
                            cache_type_name(type), block));
  }
  layers_ = std::vector<Layer>(shape.layer_count);
  for (std::uint32_t index = 0; index < shape.layer_count; ++index) {
    const model::LayerMemory& memory = shape.layers[index].memory;
    layers_[index].layout = {.type = type,
                             .k_width = memory.k_width,
                             .v_width = memory.v_width,
                             .k_row_bytes = static_cast<std::uint32_t>(ggml_row_size(element, memory.k_width)),
                             .v_row_bytes = static_cast<std::uint32_t>(ggml_row_size(element, memory.v_width))};
    layers_[index].cells = static_cast<std::uint32_t>(model::layer_rows(shape, index, demand));
  }
  const double bytes_per_element = static_cast<double>(ggml_type_size(element)) / block;
  const auto bytes = static_cast<std::uint64_t>(model::kv_bytes(shape, held, demand, bytes_per_element));
  if (bytes > device.info().memory_total_bytes) {
    return fail(
        ErrorCode::kNoCapacity,
        std::format("{} KV cells need {} MB, and the device '{}' has {} MB; try a smaller --ctx", demand.context_tokens,
                    bytes >> 20U, device.info().name, device.info().memory_total_bytes >> 20U));
  }
  device_ = &device;
  return {};
}

Result<void> KvCache::ensure(LayerRange layers) {
  for (std::uint32_t index = layers.begin; index < layers.end; ++index) {
    Layer& layer = layers_[index];
    if (layer.ready) continue;
    const KvLayout& layout = layer.layout;
    if (layout.k_width == 0) {
      layer.ready = true;
      continue;
    }
    layer.context = make_context(2);
    const ggml_type type = tensor_type(layout.type);
    layer.k = ggml_new_tensor_2d(layer.context.get(), type, layout.k_width, layer.cells);
    if (layout.v_width != 0) layer.v = ggml_new_tensor_2d(layer.context.get(), type, layout.v_width, layer.cells);
    layer.buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(layer.context.get(), device_->memory()));
    if (layer.buffer == nullptr) {
      return fail(ErrorCode::kNoCapacity,
                  std::format("no memory for {} KV cells in layer {}; try a smaller --ctx", layer.cells, index));
    }
    device_->prefer_large_pages(layer.buffer.get());
    ggml_backend_buffer_clear(layer.buffer.get(), 0);
    bytes_ += ggml_backend_buffer_get_size(layer.buffer.get());
    layer.ready = true;
  }
  return {};
}

std::optional<KvView> KvCache::view(std::uint32_t layer, std::uint64_t first_cell, std::uint32_t count) const {
  if (!device_->is_host_memory()) return std::nullopt;
  const auto rows = [&](const ggml_tensor* tensor, std::uint64_t row_bytes) {
    if (tensor == nullptr) return ByteSpan();
    return ByteSpan(static_cast<const std::byte*>(tensor->data) + first_cell * row_bytes, count * row_bytes);
  };
  const KvLayout& rows_of = layout(layer);
  return KvView{rows(k(layer), rows_of.k_row_bytes), rows(v(layer), rows_of.v_row_bytes)};
}

void KvCache::read(std::uint32_t layer, std::uint64_t first_cell, std::span<std::byte> k_rows,
                   std::span<std::byte> v_rows) const {
  const auto read_rows = [&](ggml_tensor* tensor, std::uint64_t row_bytes, std::span<std::byte> rows) {
    if (tensor != nullptr) ggml_backend_tensor_get(tensor, rows.data(), first_cell * row_bytes, rows.size());
  };
  read_rows(k(layer), layout(layer).k_row_bytes, k_rows);
  read_rows(v(layer), layout(layer).v_row_bytes, v_rows);
}

void KvCache::write(std::uint32_t layer, std::uint64_t first_cell, ByteSpan k_rows, ByteSpan v_rows) {
  const auto write_rows = [&](ggml_tensor* tensor, std::uint64_t row_bytes, ByteSpan rows) {
    if (tensor != nullptr) ggml_backend_tensor_set(tensor, rows.data(), first_cell * row_bytes, rows.size());
  };
  write_rows(k(layer), layout(layer).k_row_bytes, k_rows);
  write_rows(v(layer), layout(layer).v_row_bytes, v_rows);
}

void KvCache::prepare(std::uint32_t layer, const LayerRows::Preparation& preparation) {
  if (preparation.moved.count > 0) {
    move_down(k(layer), layout(layer).k_row_bytes, preparation.moved, preparation.moved_to);
    move_down(v(layer), layout(layer).v_row_bytes, preparation.moved, preparation.moved_to);
  }
  clear(layer, preparation.before);
  clear(layer, preparation.behind);
}

void KvCache::clear(std::uint32_t layer, LayerRows::Cells cells) {
  if (cells.count == 0) return;
  const auto wipe = [&](ggml_tensor* rows, std::uint64_t row_bytes) {
    if (rows != nullptr) ggml_backend_tensor_memset(rows, 0, cells.first * row_bytes, cells.count * row_bytes);
  };
  wipe(k(layer), layout(layer).k_row_bytes);
  wipe(v(layer), layout(layer).v_row_bytes);
}

void KvCache::move_down(ggml_tensor* rows, std::uint64_t row_bytes, LayerRows::Cells from, std::uint64_t to) const {
  if (rows == nullptr) return;
  if (device_->is_host_memory()) {
    auto* bytes = static_cast<std::byte*>(rows->data);
    std::memmove(bytes + to * row_bytes, bytes + from.first * row_bytes, from.count * row_bytes);
    return;
  }
  // A device copies between places that do not overlap: as many rows at a time as the distance allows.
  const std::uint64_t distance = from.first - to;
  for (std::uint64_t done = 0; done < from.count; done += distance) {
    const std::uint64_t count = std::min(distance, from.count - done);
    const GgmlContext context = make_context(2);
    const auto view = [&](std::uint64_t first) {
      ggml_tensor* part = ggml_view_2d(context.get(), rows, rows->ne[0], static_cast<std::int64_t>(count), row_bytes,
                                       first * row_bytes);
      ggml_backend_view_init(part);
      return part;
    };
    ggml_backend_tensor_copy(view(from.first + done), view(to + done));
  }
}

}  // namespace baton::engine
