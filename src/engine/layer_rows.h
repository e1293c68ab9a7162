// Which positions of a sequence one layer has, and in which cells. Numbers only. Private to the engine room.
//
// A layer that sees everything has a cell for every position. One that sees a window keeps a run of positions in a run
// of cells, the base: position p lies in cell first_cell + (p - base), so attention reads what it would read in a full
// cache, in the same order and the same blocks. When the run is full, what is still needed moves down to its beginning
// and the base up (docs/adr/0008-window-rows.md).
#pragma once

#include <cstdint>

namespace baton::engine {

// Not thread-safe. A layer's rows belong to whoever computes or receives the layer.
class LayerRows {
 public:
  // Every position has its cell.
  static LayerRows full(std::uint64_t first_cell, std::uint32_t cells);
  // `cells` are enough for a pass (model::window_rows), or for the whole sequence.
  static LayerRows windowed(std::uint64_t first_cell, std::uint32_t cells, std::uint32_t window);

  bool keeps_window() const { return window_ != 0; }

  // The cell of position 0, which may lie before all cells.
  std::int64_t origin() const { return static_cast<std::int64_t>(first_cell_) - base_; }
  std::uint64_t cell(std::uint32_t position) const { return first_cell_ + (position - base_); }

  // Whether these rows can be read.
  bool has(std::uint32_t first, std::uint32_t count) const;
  // Whether all that a token at `position` sees of those before it is here. A full layer cannot know: it trusts its
  // caller.
  bool can_continue_at(std::uint32_t position) const;
  // Positions of a windowed layer that are here.
  std::uint32_t begin() const { return begin_; }
  std::uint32_t end() const { return end_; }

  struct Cells {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
  };
  // What must be done in the layer's cells before tokens are written there, in this order.
  struct Preparation {
    std::uint32_t skipped = 0;  // of the tokens, the first: gone from the run before its last is written
    Cells moved;                // these go down to `moved_to`
    std::uint64_t moved_to = 0;
    // These are cleared: attention reads whole blocks, and an earlier sequence's numbers lie there.
    Cells before;
    Cells behind;
  };
  // `count` tokens from `first` on come from elsewhere. In a windowed layer what was behind them is given up, and where
  // `first` lies outside of what is here, everything is.
  Preparation prepare_write(std::uint32_t first, std::uint32_t count);
  // A pass computes them; can_continue_at(first) holds.
  Preparation prepare_pass(std::uint32_t first, std::uint32_t count);
  // It has so many cells from now on, the same as before at their beginning; in a windowed layer never fewer.
  void resize(std::uint32_t cells);
  // What is there from `position` on counts no more, and is cleared before attention reads it; everything, where
  // can_continue_at(position) does not hold.
  void forget_from(std::uint32_t position);
  // The pass that was prepared from `first` on never wrote its tokens.
  void take_back(std::uint32_t first);

 private:
  std::uint64_t first_cell_ = 0;
  std::uint32_t cells_ = 0;
  std::uint32_t window_ = 0;  // 0: a full layer
  std::uint32_t base_ = 0;    // whole blocks
  std::uint32_t begin_ = 0;
  std::uint32_t end_ = 0;
  std::uint32_t clean_ = 0;  // of the cells, the first: cleared or written since the sequence took them
};

}  // namespace baton::engine
