// Who owns which cells of the KV cache: contiguous runs, first fit. No memory of its own; numbers only.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "model/kv_rows.h"

namespace baton::engine {

// Sequences are reserved in whole blocks, so that attention padded to a block never leaves its sequence.
inline constexpr std::uint32_t kCellBlock = model::kKvBlock;

// Thread-safe.
class CellPool {
 public:
  // `cells` is rounded down to whole blocks.
  explicit CellPool(std::uint32_t cells);

  // The first cell of `cells` free ones (a multiple of kCellBlock) in a row, or nothing where no gap is large enough.
  std::optional<std::uint32_t> take(std::uint32_t cells);
  // Takes exactly these cells, behind others in whole blocks; false where they are not all free.
  bool take_at(std::uint32_t first_cell, std::uint32_t cells);
  void give_back(std::uint32_t first_cell, std::uint32_t cells);

  std::uint32_t capacity() const { return blocks_ * kCellBlock; }
  std::uint32_t free_cells() const;
  std::uint32_t largest_gap() const;

 private:
  mutable std::mutex mutex_;
  std::uint32_t blocks_;
  std::vector<bool> taken_;  // one per block
};

}  // namespace baton::engine
