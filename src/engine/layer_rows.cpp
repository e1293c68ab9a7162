#include "engine/layer_rows.h"

#include <algorithm>

#include "base/attention_window.h"
#include "model/kv_rows.h"

namespace baton::engine {

LayerRows LayerRows::full(std::uint64_t first_cell, std::uint32_t cells) {
  LayerRows rows;
  rows.first_cell_ = first_cell;
  rows.cells_ = cells;
  return rows;
}

LayerRows LayerRows::windowed(std::uint64_t first_cell, std::uint32_t cells, std::uint32_t window) {
  LayerRows rows = full(first_cell, cells);
  rows.window_ = window;
  return rows;
}

bool LayerRows::has(std::uint32_t first, std::uint32_t count) const {
  if (!keeps_window()) return first <= cells_ && count <= cells_ - first;
  return first >= begin_ && first <= end_ && count <= end_ - first;
}

bool LayerRows::can_continue_at(std::uint32_t position) const {
  if (!keeps_window()) return true;
  const std::uint32_t seen = first_visible(position, window_);
  return seen == position || (begin_ <= seen && position <= end_);
}

LayerRows::Preparation LayerRows::prepare_write(std::uint32_t first, std::uint32_t count) {
  Preparation todo;
  if (!keeps_window()) return todo;
  const std::uint32_t write_end = model::block_above(first + count);
  const std::uint32_t lowest_base = write_end - std::min(write_end, cells_);
  if (first < lowest_base) {
    todo.skipped = lowest_base - first;
    first = lowest_base;
    count -= todo.skipped;
  }
  const bool continues = first >= begin_ && first <= end_;
  if (!continues) begin_ = end_ = first;

  if (first < base_ || write_end - base_ > cells_) {
    const std::uint32_t wanted = first_visible(first - std::min(first, model::kRollbackTokens), window_);
    const std::uint32_t base = std::max(model::block_below(wanted), lowest_base);
    begin_ = std::max(begin_, base);
    if (first > begin_) {
      todo.moved = {first_cell_ + (begin_ - base_), first - begin_};
      todo.moved_to = first_cell_ + (begin_ - base);
    }
    base_ = base;
  }
  const std::uint32_t before = begin_ - base_;
  if (before > clean_) todo.before = {first_cell_ + clean_, before - clean_};
  end_ = first + count;
  clean_ = std::max(clean_, end_ - base_);
  return todo;
}

LayerRows::Preparation LayerRows::prepare_pass(std::uint32_t first, std::uint32_t count) {
  const std::uint32_t used = clean_;
  Preparation todo = prepare_write(first, count);
  const std::uint32_t end = first + count - base_;
  const std::uint32_t padded = model::block_above(end);
  const std::uint32_t from = std::max(end, used);
  if (padded > from) todo.behind = {first_cell_ + from, padded - from};
  clean_ = std::max(used, padded);
  return todo;
}

void LayerRows::resize(std::uint32_t cells) {
  cells_ = cells;
  clean_ = std::min(clean_, cells);
}

void LayerRows::forget_from(std::uint32_t position) {
  if (!keeps_window() || (begin_ <= position && can_continue_at(position))) return take_back(position);
  base_ = begin_ = end_ = clean_ = 0;
}

void LayerRows::take_back(std::uint32_t first) {
  end_ = std::min(end_, first);
  clean_ = std::min(clean_, first - base_);
}

}  // namespace baton::engine
