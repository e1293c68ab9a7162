// A sequence's place in the KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/cell_run.h"
#include "engine/layer_rows.h"

namespace baton::engine {

class SequenceStates;

// Owns cells of one engine's cache until it is destroyed: one for each position, and in layers that keep a window as
// many as those need. Movable. Destroying it frees the cells, so nobody may still be reading or writing them then. It
// may outlive its engine. With the cells go the states of layers that keep one.
class Sequence {
 public:
  Sequence() = default;

  explicit operator bool() const { return cells_.pool() != nullptr; }
  // Tokens it can hold: what was asked for, rounded up to a multiple of 256.
  std::uint32_t capacity() const { return cells_.count(); }

 private:
  friend class Engine;
  friend class ForwardPass;
  // `rows` has an element for each layer of the model.
  Sequence(CellRun cells, CellRun window_cells, std::vector<LayerRows> rows)
      : cells_(std::move(cells)), window_cells_(std::move(window_cells)), rows_(std::move(rows)) {}

  CellRun cells_;
  CellRun window_cells_;
  std::vector<LayerRows> rows_;
  std::shared_ptr<SequenceStates> states_;  // null where the model's layers keep none
};

}  // namespace baton::engine
