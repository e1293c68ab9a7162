// States that layers keep, at borders of the chunk grid, beside the sequence itself. A state cannot go back: what was
// at a border is gone once a pass has run on. So whoever may have to resume a prefill keeps them until every layer is
// past that border.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "engine/engine.h"

namespace baton::node {

// Lives on the loop's thread, but for copy() and layer_keeps_state().
class StateShelf {
 public:
  // Both must outlive it.
  StateShelf(engine::Engine& engine, engine::Sequence& sequence) : engine_(engine), sequence_(sequence) {}

  bool layer_keeps_state(std::uint32_t layer) const { return state_bytes(layer) != 0; }
  // The sequence's state of that layer as it is now. Any thread, while no pass changes it.
  Result<Bytes> copy(std::uint32_t layer) const;
  // Makes it the sequence's.
  Result<void> use(std::uint32_t layer, std::uint32_t position, ByteSpan state);

  bool empty() const { return states_.empty(); }
  void keep(std::uint32_t layer, std::uint32_t border, Bytes state);
  void drop_below(std::uint32_t border);
  void drop_above(std::uint32_t border);
  // Keeps the states that the sequence has now; they must all stand at `border`.
  Result<void> keep_all(std::uint32_t border);
  // Where the sequence's own states stand, if all stand at one position; nothing too where no layer keeps one.
  std::optional<std::uint32_t> position() const;

  // The last border not above `limit` from which every layer can go on: `limit` itself where no layer keeps a state, 0
  // where not all are here.
  std::uint32_t last_border(std::uint32_t limit) const;
  // Makes the states at a border that last_border() gave the sequence's.
  Result<void> restore(std::uint32_t border);
  // All borders not above `limit` where the states of every layer are, ascending.
  std::vector<std::uint32_t> borders(std::uint32_t limit) const;
  // Null where it is not here; good until something is kept or dropped. Any thread, until then.
  const Bytes* find(std::uint32_t layer, std::uint32_t border) const;

 private:
  std::size_t state_bytes(std::uint32_t layer) const;
  std::size_t layers_with_state() const;

  engine::Engine& engine_;
  engine::Sequence& sequence_;
  std::map<std::uint32_t, std::map<std::uint32_t, Bytes>> states_;  // by border, then layer
};

}  // namespace baton::node
