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

// The decoder reads the layers from `end` on, perhaps none. For each `end` the first reader's load grows with the
// border between the two readers and the second's falls, so from where they meet the walk goes outwards both ways,
// until one load alone is too long.
void Search::weigh_splits_of_relay(const PrefillTable& prefill, const std::array<DeviceIndex, 3>& devices,
                                   std::uint32_t most_end) {
  if (most_end < 2) return;
  const auto [first, second, decoder] = devices;
  Best& best = best_of(PlanShape::kRelay);
  const double written_s = decode_s(decoder, 0);
  // While one waits for the load of a device, the answers that run on it wait as well.
  const auto load = [&](DeviceIndex device, std::uint32_t begin, std::uint32_t end) {
    return begin == end ? 0.0 : prefill.load(device, {begin, end}) * (1 + cluster_.devices[device].streams);
  };
  const double tokens = request_.prompt_tokens - prefill.chunks().front().first_position;
  // A reader's KV has to travel as well, and it grows with its layers as its load does.
  const auto wire = [&](DeviceIndex device, std::uint32_t begin, std::uint32_t end) {
    const Way& way = links_.between(cluster_.devices[device].node, cluster_.devices[decoder].node);
    return way.seconds(simulation_.kept_bytes({begin, end}, codecs_.back(), prefill));
  };
  const auto load_of_first = [&](std::uint32_t border) {
    return std::max(load(first, 0, border), wire(first, 0, border));
  };
  const auto load_of_second = [&](std::uint32_t border, std::uint32_t end) {
    return std::max(load(second, border, end), wire(second, border, end));
  };
  const auto load_of_decoder = [&](std::uint32_t end) { return load(decoder, end, layers_); };
  // All hidden states pass from reader to reader, wherever the borders lie.
  if (hidden_s(first, second, tokens) + written_s >= limit(best)) return;
  const bool decoder_may_read = hidden_s(second, decoder, tokens) + written_s < limit(best);
  if (!decoder_may_read && most_end < layers_) return;
  const auto weigh_split = [&](std::uint32_t border, std::uint32_t end) {
    candidate_.prefill = {{first, {0, border}}, {second, {border, end}}};
    if (end < layers_) candidate_.prefill.push_back({decoder, {end, layers_}});
    candidate_.decode = {{decoder, {0, layers_}}};
    weigh(prefill, best);
  };
  // The smallest border at which the first reader has at least as much to do as the second; it falls with `end`.
  const auto meeting = [&](std::uint32_t from, std::uint32_t end) {
    std::uint32_t border = std::min(from, end - 1);
    while (border > 1 && load_of_first(border - 1) >= load_of_second(border - 1, end)) --border;
    return border;
  };
  // The most even split first, so that the walk has something to hold the others against.
  std::pair<std::uint32_t, std::uint32_t> even = {1, 2};
  double longest = std::numeric_limits<double>::infinity();
  std::uint32_t border = most_end;
  for (std::uint32_t end = most_end; end >= 2; --end) {
    border = meeting(border, end);
    for (const std::uint32_t near : {border, border > 1 ? border - 1 : border}) {
      const double heaviest = std::max({load_of_first(near), load_of_second(near, end), load_of_decoder(end)});
      if (heaviest < longest) {
        longest = heaviest;
        even = {near, end};
      }
    }
  }
  weigh_split(even.first, even.second);

  border = most_end;
  for (std::uint32_t end = most_end; end >= 2 && load_of_decoder(end) + written_s < limit(best); --end) {
    if (end < layers_ && !decoder_may_read) break;
    border = meeting(border, end);
    for (std::uint32_t at = border; at < end && load_of_first(at) + written_s < limit(best); ++at) weigh_split(at, end);
    for (std::uint32_t at = border - 1; at > 0 && load_of_second(at, end) + written_s < limit(best); --at) {
      weigh_split(at, end);
    }
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
