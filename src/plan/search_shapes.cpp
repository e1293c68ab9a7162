// The shapes of plan, one walk for each.
#include <algorithm>
#include <functional>
#include <limits>

#include "plan/search.h"

namespace baton::plan {

namespace {

// Steps of the walk through pools of many devices, after which the best so far has to do.
constexpr std::uint64_t kPoolBudget = 30'000;
// What a prediction costs in such steps.
constexpr std::uint64_t kPredictionSteps = 5;

// The first reader has the layers before `border`, the second those from there to `end`, the decoder the rest, perhaps
// none.
struct RelaySplit {
  std::uint32_t border = 1;
  std::uint32_t end = 2;
};

// What each device of a relay has to do, in seconds, whatever the others do.
struct RelayLoads {
  struct Worker {
    DeviceIndex device = 0;
    double waiting = 1;  // while one waits for its work, the answers that run on it wait as well
    Way to_decoder;
  };
  const PrefillTable& prefill;
  const Simulation& simulation;
  WireCodec shortest_codec;
  std::uint32_t layers;
  Worker first;
  Worker second;
  Worker decoder;

  double of_first(std::uint32_t border) const { return reading_s(first, {0, border}); }
  double of_second(RelaySplit split) const { return reading_s(second, {split.border, split.end}); }
  double of_decoder(std::uint32_t end) const { return computing_s(decoder, {end, layers}); }

  // The smallest border at which the first reader has at least as much to do as the second; it falls with `end`, so
  // that of a larger one may be given as `from`.
  std::uint32_t meeting(std::uint32_t from, std::uint32_t end) const {
    std::uint32_t border = std::min(from, end - 1);
    while (border > 1 && of_first(border - 1) >= of_second({border - 1, end})) --border;
    return border;
  }
  // Where the most that one of them has to do is least.
  RelaySplit most_even(std::uint32_t most_end) const;

 private:
  double computing_s(const Worker& worker, LayerRange range) const {
    return range.empty() ? 0 : prefill.load(worker.device, range) * worker.waiting;
  }
  // A reader's KV has to travel as well, and it grows with its layers as its load does.
  double reading_s(const Worker& reader, LayerRange range) const {
    return std::max(computing_s(reader, range),
                    reader.to_decoder.seconds(simulation.kept_bytes(range, shortest_codec, prefill)));
  }
};

RelaySplit RelayLoads::most_even(std::uint32_t most_end) const {
  RelaySplit even;
  double longest = std::numeric_limits<double>::infinity();
  std::uint32_t border = most_end;
  for (std::uint32_t end = most_end; end >= 2; --end) {
    border = meeting(border, end);
    for (const std::uint32_t near : {border, border > 1 ? border - 1 : border}) {
      const double heaviest = std::max({of_first(near), of_second({near, end}), of_decoder(end)});
      if (heaviest < longest) {
        longest = heaviest;
        even = {near, end};
      }
    }
  }
  return even;
}

}  // namespace

bool Search::holds_all(DeviceIndex decoder) const {
  return bytes_alone(decoder) <= cluster_.devices[decoder].memory_bytes;
}

void Search::singles() {
  for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) {
    candidate_.prefill = candidate_.decode = {{device, {0, layers_}}};
    if (feasibility_.missing_link(candidate_)) continue;
    each_chunk_size({&device, 1}, [&](const PrefillTable& prefill) { weigh(prefill, singles_[device]); });
  }
}

void Search::disaggregated() {
  for (DeviceIndex reader = 0; reader < cluster_.device_count(); ++reader) {
    for (DeviceIndex decoder = 0; decoder < cluster_.device_count(); ++decoder) {
      const std::array devices = {reader, decoder};
      if (reader == decoder || !holds_all(decoder) || !canonical(devices)) continue;
      candidate_.prefill = {{reader, {0, layers_}}};
      candidate_.decode = {{decoder, {0, layers_}}};
      if (feasibility_.missing_link(candidate_)) continue;
      each_chunk_size(devices,
                      [&](const PrefillTable& prefill) { weigh(prefill, best_of(PlanShape::kDisaggregated)); });
    }
  }
}

void Search::joints() {
  for (DeviceIndex reader = 0; reader < cluster_.device_count(); ++reader) {
    for (DeviceIndex decoder = 0; decoder < cluster_.device_count(); ++decoder) {
      const std::array devices = {reader, decoder};
      if (reader == decoder || !holds_all(decoder) || !canonical(devices)) continue;
      candidate_.prefill = {{reader, {0, 1}}, {decoder, {1, layers_}}};
      candidate_.decode = {{decoder, {0, layers_}}};
      if (feasibility_.missing_link(candidate_)) continue;
      each_chunk_size(devices, [&](const PrefillTable& prefill) {
        for (std::uint32_t split = 1; split < layers_; ++split) {
          candidate_.prefill[0].layers.end = candidate_.prefill[1].layers.begin = split;
          weigh(prefill, best_of(PlanShape::kJoint));
        }
      });
    }
  }
}

void Search::relays() {
  const auto count = cluster_.device_count();
  for (DeviceIndex first = 0; first < count; ++first) {
    for (DeviceIndex second = 0; second < count; ++second) {
      if (first == second || !canonical(std::array{first, second})) continue;
      for (DeviceIndex decoder = 0; decoder < count; ++decoder) {
        const std::array devices = {first, second, decoder};
        if (first == decoder || second == decoder || !holds_all(decoder) || !canonical(devices)) continue;
        candidate_.prefill = {{first, {}}, {second, {}}, {decoder, {}}};
        candidate_.decode = {{decoder, {0, layers_}}};
        if (feasibility_.missing_link(candidate_)) continue;
        // Where the decoder reads nothing, the second reader's logits need a way to the coordinator.
        candidate_.prefill.pop_back();
        const std::uint32_t most = feasibility_.missing_link(candidate_) ? layers_ - 1 : layers_;
        each_chunk_size(devices, [&](const PrefillTable& prefill) { weigh_splits_of_relay(prefill, devices, most); });
      }
    }
  }
}

// For each `end` the first reader's load grows with the border between the two readers and the second's falls, so from
// where they meet the walk goes outwards both ways, until one load alone is too long.
void Search::weigh_splits_of_relay(const PrefillTable& prefill, const std::array<DeviceIndex, 3>& devices,
                                   std::uint32_t most_end) {
  if (most_end < 2) return;
  const auto [first, second, decoder] = devices;
  Best& best = best_of(PlanShape::kRelay);
  const double written_s = decode_s(decoder, 0);
  const auto may_win = [&](double part_s) { return part_s + written_s < limit(best); };
  const double tokens = request_.prompt_tokens - prefill.chunks().front().first_position;
  // All hidden states pass from reader to reader, wherever the borders lie.
  if (!may_win(hidden_s(first, second, tokens))) return;
  const bool decoder_may_read = may_win(hidden_s(second, decoder, tokens));
  if (!decoder_may_read && most_end < layers_) return;
  const auto worker = [&](DeviceIndex device) {
    const Device& numbers = cluster_.devices[device];
    return RelayLoads::Worker{device, 1.0 + numbers.streams * prefill.own_share(device),
                              links_.between(numbers.node, cluster_.devices[decoder].node)};
  };
  const RelayLoads loads{prefill, simulation_, codecs_.back(), layers_, worker(first), worker(second), worker(decoder)};
  const auto weigh_split = [&](RelaySplit split) {
    candidate_.prefill = {{first, {0, split.border}}, {second, {split.border, split.end}}};
    if (split.end < layers_) candidate_.prefill.push_back({decoder, {split.end, layers_}});
    candidate_.decode = {{decoder, {0, layers_}}};
    weigh(prefill, best);
  };
  // So that the walk has something to hold the others against.
  weigh_split(loads.most_even(most_end));
  std::uint32_t border = most_end;
  for (std::uint32_t end = most_end; end >= 2 && may_win(loads.of_decoder(end)); --end) {
    if (end < layers_ && !decoder_may_read) break;
    border = loads.meeting(border, end);
    for (std::uint32_t at = border; at < end && may_win(loads.of_first(at)); ++at) weigh_split({at, end});
    for (std::uint32_t at = border - 1; at > 0 && may_win(loads.of_second({at, end})); --at) weigh_split({at, end});
  }
}

bool Search::pools(std::size_t devices) {
  if (!may_hold(devices)) return true;
  std::uint64_t budget = kPoolBudget;
  candidate_.prefill.clear();
  extend_pool(devices, 0, 0, budget);
  return budget > 0;
}

// Whether the largest of so many devices could hold the weights, however they were spread.
bool Search::may_hold(std::size_t devices) const {
  std::vector<double> memory;
  for (const Device& device : cluster_.devices) memory.push_back(device.memory_bytes / device.weight_copies);
  std::ranges::sort(memory, std::greater());
  memory.resize(std::min(devices, memory.size()));
  double weights = static_cast<double>(shape_.head_weight_bytes);
  for (const model::LayerShape& layer : shape_.layers) weights += static_cast<double>(layer.weight_bytes);
  return std::ranges::fold_left(memory, 0.0, std::plus()) >= weights;
}

void Search::extend_pool(std::size_t devices, std::uint32_t next_layer, double decode_s, std::uint64_t& budget) {
  Best& best = best_of(PlanShape::kPooled);
  const std::size_t depth = candidate_.prefill.size();
  const auto to_follow = static_cast<std::uint32_t>(devices - depth - 1);
  if (next_layer + to_follow >= layers_) return;
  for (const DeviceIndex device : by_decode_) {
    std::vector<DeviceIndex> used;
    for (const DeviceStage& stage : candidate_.prefill) used.push_back(stage.device);
    if (std::ranges::contains(used, device)) continue;
    used.push_back(device);
    if (!canonical(used)) continue;
    // As much as it holds first: a good plan found early spares the rest.
    for (std::uint32_t end = layers_ - to_follow; end > next_layer && budget > 0; --end) {
      if (to_follow == 0 && end != layers_) break;
      --budget;
      const LayerRange layers = {next_layer, end};
      const double spent = decode_s + decode_.layers_only(device, layers);
      if (spent + fastest_decode_[end] >= limit(best)) continue;
      const Device& numbers = cluster_.devices[device];
      if (memory_.least_stage_bytes(numbers, layers) > numbers.memory_bytes) continue;
      candidate_.prefill.push_back({device, layers});
      if (to_follow > 0) {
        extend_pool(devices, end, spent, budget);
      } else {
        candidate_.decode = candidate_.prefill;
        if (!feasibility_.missing_link(candidate_)) {
          budget -= std::min(budget, kPredictionSteps);
          each_chunk_size(used, [&](const PrefillTable& prefill) { weigh(prefill, best); });
        }
      }
      candidate_.prefill.resize(depth);
    }
  }
}

std::vector<Alternative> Search::results() const {
  std::vector<Alternative> found;
  const auto add = [&](const Best& best) {
    if (const Alternative* picked = best.pick()) {
      found.push_back(*picked);
      found.back().prediction.memory_bytes = feasibility_.total_bytes(picked->placement);
    }
  };
  for (const Best& best : singles_) add(best);
  for (const Best& best : best_) add(best);
  return found;
}

}  // namespace baton::plan
