// Attention of many rows over an F16 cache, by tiles. Private to the engine room; attention_dnnl.cpp implements it on
// oneDNN's small matrix kernels, no_dnnl.cpp is for builds without.
//
// A tile of rows meets one tile of cells after the other, keeping for each row the largest score so far, the sum of
// exponentials and the weighted sum of values, rescaled whenever a larger score turns up (Milakov and Gimelshein, 2018,
// "Online normalizer calculation for softmax"; Dao et al., 2022, "FlashAttention"). The query heads that share a KV
// head share its tiles. Tiles that no row of a tile may see are not touched. All arithmetic is F32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace baton::engine {

struct AttentionForm {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t key_width = 0;  // of a head
  std::int64_t value_width = 0;
  float scale = 1.0F;  // on the product of query and key
  auto operator<=>(const AttentionForm&) const = default;
};

struct AttentionSpanData {
  const float* queries = nullptr;   // [row][head][key width]
  const std::byte* keys = nullptr;  // F16 [cell][kv head][key width]
  const std::byte* values = nullptr;
  std::int64_t rows = 0;
  // The cell of row 0: row r sees cells up to first_row + r. Up to the end of the last tile of kCellTile cells there is
  // memory with finite numbers in it.
  std::int64_t first_row = 0;
  std::int64_t window = 0;   // a row sees so many cells at most, its own among them; 0: all
  float* results = nullptr;  // [row][head][value width]
};

// Immutable.
class AttentionKernel {
 public:
  static constexpr std::int64_t kCellTile = 128;

  virtual ~AttentionKernel() = default;
  // Share `thread` of `threads` of the work. The shares may run at once; who does what changes no bit of the results.
  virtual Result<void> compute(const AttentionSpanData& span, int thread, int threads) const = 0;
};

// Shared by all who ask for the same form; nullptr where this build or processor has none for it.
std::shared_ptr<const AttentionKernel> find_attention_kernel(const AttentionForm& form);

}  // namespace baton::engine
