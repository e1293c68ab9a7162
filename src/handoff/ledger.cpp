#include "handoff/ledger.h"

#include <algorithm>
#include <cassert>

#include "base/attention_window.h"

namespace baton::handoff {

SliceLedger::SliceLedger(const Flow& flow) : prompt_tokens_(flow.prompt_tokens), needed_slices_(flow.needed_slices()) {
  const auto add = [&](SliceKind kind, std::uint32_t layer, std::vector<Chunk> chunks, std::uint32_t window = 0) {
    const auto [found, is_new] = lanes_.try_emplace({kind, layer});
    if (!is_new) return;  // a decode flow goes on in the lane of the prefill before it
    Lane& lane = found->second;
    lane.begin = chunks.empty() ? prompt_tokens_ : chunks.front().first_position;
    lane.received_up_to = lane.held_up_to = lane.generation_floor = lane.reported_up_to = lane.begin;
    lane.states.resize(chunks.size(), State::kMissing);
    lane.held.resize(chunks.size());
    lane.window = window;
    lane.droppable = static_cast<std::size_t>(std::ranges::count_if(
        chunks, [&](const Chunk& chunk) { return may_be_dropped(chunk, flow.last_border, window); }));
    lane.chunks = std::move(chunks);
  };
  for (const KeptLane& lane : flow.kept) add(lane.kind, lane.layer, flow.chunks, lane.window);
  if (flow.prefill_hidden) add(SliceKind::kHidden, *flow.prefill_hidden, flow.chunks);
  if (flow.prefill_logits) add(SliceKind::kLogits, flow.layers, {{prompt_tokens_ - 1, 1}});
  if (flow.decode_hidden) add(SliceKind::kHidden, *flow.decode_hidden, {});
  if (flow.decode_logits) add(SliceKind::kLogits, flow.layers, {});
}

const SliceLedger::Lane& SliceLedger::lane(const SliceKey& key) const {
  const auto found = lanes_.find({key.kind, key.layer});
  assert(found != lanes_.end());
  return found->second;
}

std::size_t SliceLedger::index_at(const Lane& lane, std::uint32_t position) {
  const auto chunk = std::ranges::lower_bound(lane.chunks, position, {}, &Chunk::first_position);
  return static_cast<std::size_t>(chunk - lane.chunks.begin());
}

SliceLedger::State SliceLedger::state(const SliceKey& key) const {
  const Lane& of = lane(key);
  if (is_prefill(key)) return of.states[index_at(of, key.first_position)];
  if (key.first_position >= of.received_up_to) return State::kMissing;
  return key.first_position < of.generation_floor ? State::kReceivedBefore : State::kReceived;
}

bool SliceLedger::may_come(const SliceKey& key) const {
  return is_prefill(key) || key.first_position == lane(key).received_up_to;
}

void SliceLedger::received(const SliceKey& key) {
  Lane& of = lane(key);
  news_ = true;
  if (!is_prefill(key)) {
    of.received_up_to = std::max(of.received_up_to, key.end_position());
    return;
  }
  const std::size_t index = index_at(of, key.first_position);
  if (of.states[index] == State::kMissing && index >= of.droppable) ++prefill_received_;
  of.states[index] = State::kReceived;
  // Slices of a layer come in order, so those that were passed over were dropped.
  for (std::size_t i = 0; i < std::min(index, of.droppable); ++i) {
    if (of.states[i] == State::kMissing) of.states[i] = State::kDropped;
  }
  for (std::size_t i = index_at(of, of.received_up_to); i < of.chunks.size() && of.states[i] != State::kMissing; ++i) {
    of.received_up_to = of.chunks[i].end_position();
  }
}

void SliceLedger::held(const SliceKey& key) {
  Lane& of = lane(key);
  if (!is_prefill(key)) {
    of.held_up_to = std::max(of.held_up_to, key.end_position());
    return;
  }
  const std::size_t index = index_at(of, key.first_position);
  if (!of.held[index] && index >= of.droppable) ++prefill_held_;
  of.held[index] = true;
  const auto passed = [&](std::size_t i) { return of.held[i] || of.states[i] == State::kDropped; };
  for (std::size_t i = index_at(of, of.held_up_to); i < of.chunks.size() && passed(i); ++i) {
    of.held_up_to = of.chunks[i].end_position();
  }
}

bool SliceLedger::can_resume_at(const Lane& lane, std::uint32_t position) {
  if (position > lane.held_up_to) return false;
  const std::uint32_t seen = first_visible(position, lane.window);
  for (std::size_t i = index_at(lane, position); i-- > 0 && lane.chunks[i].end_position() > seen;) {
    if (!lane.held[i]) return false;
  }
  return true;
}

std::uint32_t SliceLedger::salvage_position() const {
  std::vector<const Lane*> kept;
  for (const auto& [key, of] : lanes_) {
    if (is_kept(key.first)) kept.push_back(&of);
  }
  if (kept.empty() || kept.front()->chunks.empty()) return prompt_tokens_;
  const std::vector<Chunk>& chunks = kept.front()->chunks;
  for (std::size_t i = chunks.size(); i-- > 0;) {
    const std::uint32_t border = chunks[i].end_position();
    if (std::ranges::all_of(kept, [&](const Lane* of) { return can_resume_at(*of, border); })) return border;
  }
  return chunks.front().first_position;
}

void SliceLedger::begin_generation() {
  for (auto& [key, of] : lanes_) {
    of.generation_floor = of.received_up_to;
    for (State& state : of.states) {
      if (state == State::kReceived) state = State::kReceivedBefore;
    }
  }
}

std::uint32_t SliceLedger::received_up_to(SliceKind kind, std::uint32_t layer) const {
  const auto found = lanes_.find({kind, layer});
  return found == lanes_.end() ? 0 : found->second.received_up_to;
}

std::uint32_t SliceLedger::held_up_to(SliceKind kind, std::uint32_t layer) const {
  const auto found = lanes_.find({kind, layer});
  return found == lanes_.end() ? 0 : found->second.held_up_to;
}

std::vector<HeldRange> SliceLedger::received_ranges() const {
  std::vector<HeldRange> ranges;
  for (const auto& [key, of] : lanes_) {
    if (of.received_up_to > of.begin) ranges.push_back({key.first, key.second, of.received_up_to});
  }
  return ranges;
}

std::vector<HeldRange> SliceLedger::take_news() {
  news_ = false;
  std::vector<HeldRange> ranges;
  for (auto& [key, of] : lanes_) {
    if (of.received_up_to == of.reported_up_to) continue;
    of.reported_up_to = of.received_up_to;
    ranges.push_back({key.first, key.second, of.received_up_to});
  }
  return ranges;
}

}  // namespace baton::handoff
