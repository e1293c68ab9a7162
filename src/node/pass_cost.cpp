#include "node/pass_cost.h"

#include <array>

namespace baton::node {

model::Cost chunk_layer_cost(const engine::Engine& engine, Chunk chunk, std::uint32_t layer) {
  const engine::KvLayout& rows = engine.kv_layout(layer);
  const std::array runs{model::TokenRun{chunk.first_position, chunk.tokens}};
  return model::layer_cost(engine.shape(), layer, runs, rows.k_row_bytes + rows.v_row_bytes);
}

model::Cost cost_behind_layer(const engine::Engine& engine, Chunk chunk, LayerRange layers, std::uint32_t layer) {
  if (layer + 1 < layers.end) return chunk_layer_cost(engine, chunk, layer + 1);
  return layers.end == engine.shape().layer_count ? model::head_cost(engine.shape(), 1) : model::Cost{};
}

model::Cost step_cost(const engine::Engine& engine, Chunk chunk, LayerRange layers) {
  const bool ends_model = layers.end == engine.shape().layer_count;
  model::Cost step = ends_model ? model::head_cost(engine.shape(), chunk.tokens) : model::Cost{};
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) step += chunk_layer_cost(engine, chunk, layer);
  return step;
}

}  // namespace baton::node
