// How many rows of K and V a layer keeps for a sequence, and what they weigh: what the engine reserves and a planner
// counts with. Pure functions.
#pragma once

#include <concepts>
#include <cstdint>

#include "base/layer_range.h"
#include "model/shape.h"

namespace baton::model {

// Attention reads whole blocks of so many positions, counted from position 0, so sequences are kept in whole blocks.
inline constexpr std::uint32_t kKvBlock = 256;

// The borders between blocks at or before a position, and at or behind it.
template <std::unsigned_integral Position>
constexpr Position block_below(Position position) {
  return position / kKvBlock * kKvBlock;
}
template <std::unsigned_integral Position>
constexpr Position block_above(Position position) {
  return block_below(position + kKvBlock - 1);
}

// A sequence can be taken back this far behind a pass of at most as many tokens, also where layers keep a window.
inline constexpr std::uint32_t kRollbackTokens = 64;

// Rows in which a pass of up to `max_chunk_tokens` tokens anywhere in a sequence finds its window, and the blocks
// around it: the window and a chunk, rounded up.
std::uint64_t window_rows(std::uint32_t window, std::uint32_t max_chunk_tokens);

struct KvDemand {
  std::uint32_t context_tokens = 0;  // of all sequences together
  std::uint32_t max_chunk_tokens = 0;
  std::uint32_t sequences = 1;  // how many at once may need a whole window
};

// Rows for each sequence in all layers with a window (as many as the widest needs); 0 where a layer with a window
// keeps every row as the others do, because windows would save nothing.
std::uint64_t rows_in_window(const ModelShape& shape, const KvDemand& demand);

// Whether the layer keeps only a window of each sequence.
bool keeps_window(const ModelShape& shape, std::uint32_t layer, const KvDemand& demand);

// Rows of one layer, all sequences together.
std::uint64_t layer_rows(const ModelShape& shape, std::uint32_t layer, const KvDemand& demand);

// Bytes of these layers' rows in a cache whose elements take so many (with blocks, on average).
double kv_bytes(const ModelShape& shape, LayerRange layers, const KvDemand& demand, double bytes_per_element);

}  // namespace baton::model
