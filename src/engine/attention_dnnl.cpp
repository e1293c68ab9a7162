// Tiled attention on oneDNN's small matrix kernels
// (https://uxlfoundation.github.io/oneDNN/dev_guide_ukernel_brgemm.html).
#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <oneapi/dnnl/dnnl_ukernel.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/aligned_bytes.h"
#include "engine/attention_kernel.h"
#include "engine/attention_softmax.h"

namespace baton::engine {

namespace {

using dnnl::memory;
using dnnl::ukernel::brgemm;

constexpr std::int64_t kCellTile = AttentionKernel::kCellTile;
// Query rows, over all heads of a group, that a tile aims at: the tile's scores, queries and results and a tile of keys
// and values fit the second-level cache together.
constexpr std::int64_t kTileRows = 256;
constexpr double kLog2E = 1.4426950408889634;

enum class Accumulate { kNo, kYes };

// c (+)= a x b for row-major F32 tiles without gaps.
class TileProduct {
 public:
  // Throws dnnl::error.
  TileProduct(std::int64_t rows, std::int64_t columns, std::int64_t depth, Accumulate accumulate)
      : kernel_(rows, columns, depth, 1, depth, columns, columns, memory::data_type::f32, memory::data_type::f32,
                memory::data_type::f32) {
    kernel_.set_add_C(accumulate == Accumulate::kYes);
    kernel_.finalize();
    if (kernel_.get_B_pack_type() != dnnl::ukernel::pack_type::no_trans) {
      throw dnnl::error(dnnl_unimplemented, "tiles of F32 want another order here");
    }
    kernel_.generate();
    scratch_bytes_ = kernel_.get_scratchpad_size();
  }

  std::size_t scratch_bytes() const { return scratch_bytes_; }
  void run(const float* a, const float* b, float* c, void* scratch) const {
    static const std::vector<std::pair<memory::dim, memory::dim>> one_tile{{0, 0}};
    kernel_.execute(a, b, one_tile, c, scratch);
  }

 private:
  brgemm kernel_;
  std::size_t scratch_bytes_ = 0;
};

// What a thread works in; one for its life.
struct Workspace {
  AlignedBytes bytes;
  float* queries = nullptr;  // [tile row][key width]
  float* keys = nullptr;     // [key width][cell]
  float* values = nullptr;   // [cell][value width]
  float* scores = nullptr;   // [tile row][cell]
  float* summed = nullptr;   // [tile row][value width]
  float* largest = nullptr;  // [tile row]
  float* sum = nullptr;      // [tile row]
  void* scratch = nullptr;
};

class TiledAttention : public AttentionKernel {
 public:
  // Throws dnnl::error.
  explicit TiledAttention(const AttentionForm& form)
      : form_(form),
        group_(form.heads / form.kv_heads),
        rows_in_tile_(std::max<std::int64_t>(1, kTileRows / group_)),
        tile_height_(rows_in_tile_ * group_),
        score_(tile_height_, kCellTile, form.key_width, Accumulate::kNo),
        weigh_(tile_height_, form.value_width, kCellTile, Accumulate::kYes) {}

  Result<void> compute(const AttentionSpanData& span, int thread, int threads) const override {
    thread_local Workspace workspace;
    try {
      lay_out(workspace);
      const std::int64_t tiles = (span.rows + rows_in_tile_ - 1) / rows_in_tile_;
      const std::int64_t tasks = tiles * form_.kv_heads;
      // Later tiles see more cells, so neighbours go to different threads.
      for (std::int64_t task = thread; task < tasks; task += threads) {
        compute_tile(span, workspace, task % form_.kv_heads, task / form_.kv_heads * rows_in_tile_);
      }
    } catch (const dnnl::error& error) {
      return fail(ErrorCode::kInternal, std::string("oneDNN: ") + error.what());
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kNoCapacity, "no memory for a tile of attention");
    }
    return {};
  }

 private:
  void lay_out(Workspace& workspace) const {
    const std::int64_t parts[] = {tile_height_ * form_.key_width,
                                  kCellTile * form_.key_width,
                                  kCellTile * form_.value_width,
                                  tile_height_ * kCellTile,
                                  tile_height_ * form_.value_width,
                                  tile_height_,
                                  tile_height_};
    float** const places[] = {&workspace.queries, &workspace.keys,    &workspace.values, &workspace.scores,
                              &workspace.summed,  &workspace.largest, &workspace.sum};
    const std::size_t scratch = std::max(score_.scratch_bytes(), weigh_.scratch_bytes());
    std::size_t total = 0;
    for (const std::int64_t part : parts)
      total += AlignedBytes::rounded(static_cast<std::size_t>(part) * sizeof(float));
    auto* at = static_cast<std::byte*>(workspace.bytes.at_least(total + scratch));
    for (std::size_t i = 0; i < std::size(parts); ++i) {
      *places[i] = reinterpret_cast<float*>(at);
      at += AlignedBytes::rounded(static_cast<std::size_t>(parts[i]) * sizeof(float));
    }
    workspace.scratch = at;
  }

  // Cells that row `row` of the span sees.
  static std::pair<std::int64_t, std::int64_t> seen_by(const AttentionSpanData& span, std::int64_t row) {
    const std::int64_t end = span.first_row + row + 1;
    return {span.window == 0 ? 0 : std::max<std::int64_t>(0, end - span.window), end};
  }

  void load_queries(const AttentionSpanData& span, Workspace& workspace, std::int64_t kv_head, std::int64_t first,
                    std::int64_t rows) const {
    // In units of log2, so that exponentials are powers of two.
    const auto scale = static_cast<float>(static_cast<double>(form_.scale) * kLog2E);
    const std::int64_t width = group_ * form_.key_width;
    for (std::int64_t row = 0; row < rows_in_tile_; ++row) {
      float* target = workspace.queries + row * width;
      if (row >= rows) {
        std::fill(target, target + width, 0.0F);
        continue;
      }
      const float* source = span.queries + ((first + row) * form_.heads + kv_head * group_) * form_.key_width;
      for (std::int64_t i = 0; i < width; ++i) target[i] = source[i] * scale;
    }
  }

  void compute_tile(const AttentionSpanData& span, Workspace& workspace, std::int64_t kv_head,
                    std::int64_t first) const {
    const std::int64_t rows = std::min(rows_in_tile_, span.rows - first);
    load_queries(span, workspace, kv_head, first, rows);
    std::fill(workspace.largest, workspace.largest + tile_height_, -std::numeric_limits<float>::infinity());
    std::fill(workspace.sum, workspace.sum + tile_height_, 0.0F);
    std::fill(workspace.summed, workspace.summed + tile_height_ * form_.value_width, 0.0F);

    const std::int64_t key_stride = form_.kv_heads * form_.key_width * 2;
    const std::int64_t value_stride = form_.kv_heads * form_.value_width * 2;
    const std::int64_t first_seen = seen_by(span, first).first / kCellTile * kCellTile;
    const std::int64_t seen_end = seen_by(span, first + rows - 1).second;
    for (std::int64_t cell = first_seen; cell < seen_end; cell += kCellTile) {
      widen_transposed(span.keys + cell * key_stride + kv_head * form_.key_width * 2, key_stride, kCellTile,
                       form_.key_width, workspace.keys);
      widen(span.values + cell * value_stride + kv_head * form_.value_width * 2, value_stride, kCellTile,
            form_.value_width, workspace.values);
      score_.run(workspace.queries, workspace.keys, workspace.scores, workspace.scratch);
      soften(span, workspace, first, rows, cell);
      weigh_.run(workspace.scores, workspace.values, workspace.summed, workspace.scratch);
    }

    for (std::int64_t row = 0; row < rows; ++row) {
      float* target = span.results + ((first + row) * form_.heads + kv_head * group_) * form_.value_width;
      for (std::int64_t head = 0; head < group_; ++head) {
        const std::int64_t line = row * group_ + head;
        const float inverse = 1.0F / workspace.sum[line];
        const float* source = workspace.summed + line * form_.value_width;
        float* place = target + head * form_.value_width;
        for (std::int64_t i = 0; i < form_.value_width; ++i) place[i] = source[i] * inverse;
      }
    }
  }

  // Scores become exponentials, and what was summed up so far is brought to their scale.
  void soften(const AttentionSpanData& span, Workspace& workspace, std::int64_t first, std::int64_t rows,
              std::int64_t cell) const {
    for (std::int64_t row = 0; row < rows_in_tile_; ++row) {
      const auto [seen_begin, seen_end] = seen_by(span, first + row);
      const std::int64_t begin = std::clamp<std::int64_t>(seen_begin - cell, 0, kCellTile);
      const std::int64_t end = std::clamp<std::int64_t>(seen_end - cell, 0, kCellTile);
      for (std::int64_t line = row * group_; line < (row + 1) * group_; ++line) {
        float* scores = workspace.scores + line * kCellTile;
        if (row >= rows || begin >= end) {
          std::fill(scores, scores + kCellTile, 0.0F);
          continue;
        }
        const float factor = soften_row(scores, kCellTile, begin, end, workspace.largest[line], workspace.sum[line]);
        if (factor != 1.0F) scale_row(workspace.summed + line * form_.value_width, form_.value_width, factor);
      }
    }
  }

  const AttentionForm form_;
  const std::int64_t group_;         // query heads of a KV head
  const std::int64_t rows_in_tile_;  // of the span
  const std::int64_t tile_height_;   // rows times group
  const TileProduct score_;
  const TileProduct weigh_;
};

// Widths that the vector code takes in whole steps.
bool makes_sense(const AttentionForm& form) {
  constexpr std::int64_t kWidthStep = 8;
  return form.kv_heads > 0 && form.heads > 0 && form.heads % form.kv_heads == 0 && form.key_width > 0 &&
         form.value_width > 0 && form.key_width % kWidthStep == 0 && form.value_width % kWidthStep == 0;
}

}  // namespace

std::shared_ptr<const AttentionKernel> find_attention_kernel(const AttentionForm& form) {
  static std::mutex mutex;
  static std::map<AttentionForm, std::shared_ptr<const AttentionKernel>> kernels;
  if (!makes_sense(form) || !can_soften()) return nullptr;
  const std::lock_guard lock(mutex);
  const auto found = kernels.find(form);
  if (found != kernels.end()) return found->second;
  std::shared_ptr<const AttentionKernel> made;
  try {
    made = std::make_shared<const TiledAttention>(form);
  } catch (const dnnl::error& error) {
    log::debug("no tiled attention on this processor: {}", error.what());
  }
  kernels.emplace(form, made);
  return made;
}

}  // namespace baton::engine
