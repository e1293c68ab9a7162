// Which slices of a transfer have come: the receiver's memory of what it must not take twice.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "handoff/flow.h"

namespace baton::handoff {

// A value. Keys must belong to the flow it was made for.
class SliceLedger {
 public:
  enum class State : std::uint8_t {
    kMissing,
    kReceivedBefore,  // verified in an earlier generation: the sender may not know and send it again
    kReceived,        // verified in this generation
    kDropped,         // it may be dropped and a later one of its layer came: it never will
  };

  explicit SliceLedger(const Flow& flow);

  State state(const SliceKey& key) const;
  // Whether a missing slice may come now: prefill slices in any order, decode slices one after the other.
  bool may_come(const SliceKey& key) const;
  void received(const SliceKey& key);
  void held(const SliceKey& key);
  void begin_generation();

  // Positions of (kind, layer) from the beginning of its flow before the first that may still come: verified, or held;
  // those that were dropped count as both. 0 for others.
  std::uint32_t received_up_to(SliceKind kind, std::uint32_t layer) const;
  std::uint32_t held_up_to(SliceKind kind, std::uint32_t layer) const;

  // All but those that may be dropped.
  bool prefill_received() const { return prefill_received_ == needed_slices_; }
  bool prefill_held() const { return prefill_held_ == needed_slices_; }

  // The last border of the grid up to which everything kept is held, as far as a token there sees it; the flow's
  // beginning where there is none after it. The prompt's end where nothing kept flows.
  std::uint32_t salvage_position() const;

  // received_up_to of every (kind, layer) that is past its beginning.
  std::vector<HeldRange> received_ranges() const;
  // Those that grew since the last call.
  std::vector<HeldRange> take_news();
  bool has_news() const { return news_; }

 private:
  friend class StateProbe;  // state_space_test.cpp compares whole states
  // One (kind, layer). Prefill slices are remembered one by one, decode slices by a mark.
  struct Lane {
    std::vector<Chunk> chunks;
    std::vector<State> states;
    std::vector<bool> held;
    std::size_t droppable = 0;  // of the chunks, the first
    std::uint32_t window = 0;
    std::uint32_t begin = 0;
    std::uint32_t received_up_to = 0;
    std::uint32_t held_up_to = 0;
    std::uint32_t generation_floor = 0;  // decode positions below came in an earlier generation
    std::uint32_t reported_up_to = 0;
  };
  using LaneKey = std::pair<SliceKind, std::uint32_t>;

  const Lane& lane(const SliceKey& key) const;
  Lane& lane(const SliceKey& key) { return const_cast<Lane&>(std::as_const(*this).lane(key)); }
  // The chunk that begins at `position`, or the number of chunks.
  static std::size_t index_at(const Lane& lane, std::uint32_t position);
  static bool can_resume_at(const Lane& lane, std::uint32_t position);
  bool is_prefill(const SliceKey& key) const { return key.first_position < prompt_tokens_; }

  std::map<LaneKey, Lane> lanes_;
  std::uint32_t prompt_tokens_ = 0;
  std::uint64_t needed_slices_ = 0;
  std::uint64_t prefill_received_ = 0;
  std::uint64_t prefill_held_ = 0;
  bool news_ = false;
};

}  // namespace baton::handoff
