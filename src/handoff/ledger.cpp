#include "handoff/ledger.h"

#include <algorithm>
#include <cassert>

namespace baton::handoff {

SliceLedger::SliceLedger(const Flow& flow)
    : prompt_tokens_(flow.prompt_tokens), prefill_slices_(flow.prefill_slices()) {
  const auto add = [&](SliceKind kind, std::uint32_t layer, std::vector<Chunk> chunks) {
    const auto [found, is_new] = lanes_.try_emplace({kind, layer});
    if (!is_new) return;  // a decode flow goes on in the lane of the prefill before it
    Lane& lane = found->second;
    lane.begin = chunks.empty() ? prompt_tokens_ : chunks.front().first_position;
    lane.received_up_to = lane.held_up_to = lane.generation_floor = lane.reported_up_to = lane.begin;
    lane.states.resize(chunks.size(), State::kMissing);
    lane.held.resize(chunks.size());
    lane.chunks = std::move(chunks);
  };
  for (const KeptLane& lane : flow.kept) add(lane.kind, lane.layer, flow.chunks);
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
  State& state = of.states[index_at(of, key.first_position)];
  if (state == State::kMissing) ++prefill_received_;
  state = State::kReceived;
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
  if (!of.held[index]) ++prefill_held_;
  of.held[index] = true;
  for (std::size_t i = index_at(of, of.held_up_to); i < of.chunks.size() && of.held[i]; ++i) {
    of.held_up_to = of.chunks[i].end_position();
  }
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
