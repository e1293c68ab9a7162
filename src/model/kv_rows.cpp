#include "model/kv_rows.h"

#include <algorithm>

namespace baton::model {

std::uint64_t window_rows(std::uint32_t window, std::uint32_t max_chunk_tokens) {
  // The first token sees window - 1 positions before it, which may begin at a block's last position.
  const std::uint64_t pass = std::max(max_chunk_tokens, 2 * kRollbackTokens);
  return block_above(kKvBlock - 1 + (window - 1) + pass);
}

std::uint64_t rows_in_window(const ModelShape& shape, const KvDemand& demand) {
  const std::uint64_t context = block_above(std::uint64_t{demand.context_tokens});
  std::uint64_t rows = 0;
  for (const LayerShape& layer : shape.layers) {
    if (layer.attention_window == 0) continue;
    const std::uint64_t wanted = window_rows(layer.attention_window, demand.max_chunk_tokens);
    if (wanted * demand.sequences < context) rows = std::max(rows, wanted);
  }
  return rows;
}

bool keeps_window(const ModelShape& shape, std::uint32_t layer, const KvDemand& demand) {
  const std::uint32_t window = shape.layers[layer].attention_window;
  return window != 0 && window_rows(window, demand.max_chunk_tokens) <= rows_in_window(shape, demand);
}

std::uint64_t layer_rows(const ModelShape& shape, std::uint32_t layer, const KvDemand& demand) {
  return keeps_window(shape, layer, demand) ? rows_in_window(shape, demand) * demand.sequences
                                            : block_above(std::uint64_t{demand.context_tokens});
}

double kv_bytes(const ModelShape& shape, LayerRange layers, const KvDemand& demand, double bytes_per_element) {
  double bytes = 0;
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    const LayerMemory& memory = shape.layers[layer].memory;
    const double width = static_cast<double>(memory.k_width) + memory.v_width;
    bytes += static_cast<double>(layer_rows(shape, layer, demand)) * width * bytes_per_element;
  }
  return bytes;
}

}  // namespace baton::model
