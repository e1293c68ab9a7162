// What a pass costs from one sign of life to the next: a layer of a prompt's chunk, or a whole step.
#pragma once

#include "base/chunk_grid.h"
#include "base/layer_range.h"
#include "engine/engine.h"
#include "model/cost.h"

namespace baton::node {

model::Cost chunk_layer_cost(const engine::Engine& engine, Chunk chunk, std::uint32_t layer);

// Behind `layer` of a pass over `layers`: the next layer, which may be of another kind; behind the model's last one the
// logits of the chunk's last token.
model::Cost cost_behind_layer(const engine::Engine& engine, Chunk chunk, LayerRange layers, std::uint32_t layer);

// All layers, and behind the model's last one the logits of each token.
model::Cost step_cost(const engine::Engine& engine, Chunk chunk, LayerRange layers);

}  // namespace baton::node
