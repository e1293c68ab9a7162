#include "engine/cell_pool.h"

#include <algorithm>
#include <cassert>

namespace baton::engine {

CellPool::CellPool(std::uint32_t cells) : blocks_(cells / kCellBlock), taken_(blocks_, false) {}

std::optional<std::uint32_t> CellPool::take(std::uint32_t cells) {
  const std::uint32_t wanted = cells / kCellBlock;
  const std::lock_guard lock(mutex_);
  std::uint32_t run = 0;
  for (std::uint32_t block = 0; block < blocks_; ++block) {
    run = taken_[block] ? 0 : run + 1;
    if (run < wanted || wanted == 0) continue;
    const std::uint32_t first = block + 1 - wanted;
    std::fill_n(taken_.begin() + first, wanted, true);
    return first * kCellBlock;
  }
  return std::nullopt;
}

bool CellPool::take_at(std::uint32_t first_cell, std::uint32_t cells) {
  const std::lock_guard lock(mutex_);
  const std::uint32_t first = first_cell / kCellBlock;
  const std::uint32_t wanted = cells / kCellBlock;
  if (first > blocks_ || wanted > blocks_ - first) return false;
  const auto begin = taken_.begin() + first;
  if (std::any_of(begin, begin + wanted, [](bool taken) { return taken; })) return false;
  std::fill_n(begin, wanted, true);
  return true;
}

void CellPool::give_back(std::uint32_t first_cell, std::uint32_t cells) {
  const std::lock_guard lock(mutex_);
  const auto begin = taken_.begin() + first_cell / kCellBlock;
  assert(std::all_of(begin, begin + cells / kCellBlock, [](bool taken) { return taken; }));
  std::fill_n(begin, cells / kCellBlock, false);
}

std::uint32_t CellPool::free_cells() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::uint32_t>(std::ranges::count(taken_, false)) * kCellBlock;
}

std::uint32_t CellPool::largest_gap() const {
  const std::lock_guard lock(mutex_);
  std::uint32_t run = 0;
  std::uint32_t largest = 0;
  for (const bool taken : taken_) {
    run = taken ? 0 : run + 1;
    largest = std::max(largest, run);
  }
  return largest * kCellBlock;
}

}  // namespace baton::engine
