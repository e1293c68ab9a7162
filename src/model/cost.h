// What a layer costs: the one formula that emulated devices, the planner and the demo share.
//   FLOPs = 2 x weights x tokens + 4 x (heads x head width) x sum of attended positions + 6 x state elements x tokens
//   bytes = weight bytes as in the file, once for the whole batch, + KV bytes and states read and written
// The sum over positions is exact and capped at the layer's attention window. Of E experts a token uses k: it costs
// k/E of their FLOPs, and t tokens that choose independently read E (1 - (1 - k/E)^t) of them. The embedding lookup is
// free; the output head counts where logits are computed. Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "model/shape.h"

namespace baton::model {

// Tokens at positions first_position .. first_position + token_count - 1 of one sequence.
struct TokenRun {
  std::uint64_t first_position = 0;
  std::uint64_t token_count = 0;
};

struct Cost {
  double flops = 0;
  double bytes = 0;
  Cost& operator+=(const Cost& other);
};

// Positions attended by all tokens of the run together: each sees itself and those before it, `window` at most (0:
// all).
std::uint64_t attended_positions(TokenRun run, std::uint64_t window);

// Experts of the layer that this many tokens are expected to read.
double experts_touched(const LayerShape& layer, std::uint64_t tokens);

// What of layer_flops() attention is: queries by keys, and the weighing of values.
double attention_flops(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs);
double layer_flops(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs);
// `kv_bytes_per_token`: one token's rows in this layer, in the cache's type.
double layer_bytes(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs,
                   double kv_bytes_per_token);
Cost layer_cost(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs,
                double kv_bytes_per_token);

// The output norm and matrix for this many rows of logits; nothing for none.
Cost head_cost(const ModelShape& shape, std::uint64_t rows);

}  // namespace baton::model
