#include "plan/search.h"

#include <algorithm>
#include <limits>

namespace baton::plan {

namespace {

int lossiness(const Placement& placement) {
  int sum = 0;
  for (const WireCodec codec : placement.codecs) sum += static_cast<int>(codec);
  return sum;
}

bool same_numbers(const Device& a, const Device& b) {
  return a.flops_per_second == b.flops_per_second && a.attention_factor == b.attention_factor &&
         a.bytes_per_second == b.bytes_per_second && a.pass_overhead_s == b.pass_overhead_s &&
         a.layer_overhead_s == b.layer_overhead_s && a.warm_after_s == b.warm_after_s &&
         a.warm_slowdown == b.warm_slowdown && a.memory_bytes == b.memory_bytes && a.weight_copies == b.weight_copies &&
         a.queue_s == b.queue_s && a.streams == b.streams && a.stream_bytes == b.stream_bytes &&
         a.prefix_tokens == b.prefix_tokens;
}

bool same_numbers(const Node& a, const Node& b) {
  return a.egress_bytes_per_second == b.egress_bytes_per_second &&
         a.ingress_bytes_per_second == b.ingress_bytes_per_second &&
         a.codec_bytes_per_second == b.codec_bytes_per_second;
}

bool same_way(const Way& a, const Way& b) {
  return a.bytes_per_second == b.bytes_per_second && a.latency_s == b.latency_s;
}

}  // namespace

double Search::Best::score() const {
  double score = std::numeric_limits<double>::infinity();
  if (exact) score = std::min(score, exact->prediction.score_s());
  if (lossy) score = std::min(score, lossy->prediction.score_s());
  return score;
}

const Alternative* Search::Best::pick() const {
  if (!exact) return lossy ? &*lossy : nullptr;
  return exact->prediction.score_s() <= score() * (1 + kTie) ? &*exact : &*lossy;
}

Search::Search(const Cluster& cluster, const model::ModelShape& shape, const Request& request)
    : cluster_(cluster),
      shape_(shape),
      request_(request),
      layers_(shape.layer_count),
      links_(cluster),
      memory_(shape, request, request.chunk_tokens),
      feasibility_(cluster, links_, memory_, request.coordinator),
      decode_(cluster, shape, request),
      simulation_(cluster, shape, request, links_),
      fastest_decode_(layers_ + 1, 0),
      codecs_(request.codecs),
      singles_(cluster.devices.size()) {
  std::ranges::sort(codecs_);
  for (DeviceIndex device = 0; device < cluster.device_count(); ++device) by_decode_.push_back(device);
  std::ranges::stable_sort(by_decode_, {},
                           [&](DeviceIndex device) { return decode_.layers_only(device, {0, layers_}); });
  for (std::uint32_t layer = layers_; layer-- > 0;) {
    double fastest = std::numeric_limits<double>::infinity();
    for (DeviceIndex device = 0; device < cluster.device_count(); ++device) {
      fastest = std::min(fastest, decode_.layers_only(device, {layer, layer + 1}));
    }
    fastest_decode_[layer] = fastest_decode_[layer + 1] + fastest;
  }
  find_twins();
}

void Search::find_twins() {
  const auto twins = [&](DeviceIndex a, DeviceIndex b) {
    const std::uint16_t one = cluster_.devices[a].node;
    const std::uint16_t other = cluster_.devices[b].node;
    if (one == other || request_.coordinator == one || request_.coordinator == other) return false;
    const auto alone = [&](std::uint16_t node) {
      return std::ranges::count(cluster_.devices, node, &Device::node) == 1;
    };
    if (!alone(one) || !alone(other) || !same_numbers(cluster_.devices[a], cluster_.devices[b]) ||
        !same_numbers(cluster_.nodes[one], cluster_.nodes[other]) ||
        !same_way(links_.between(one, other), links_.between(other, one))) {
      return false;
    }
    for (std::uint16_t node = 0; node < cluster_.node_count(); ++node) {
      if (node == one || node == other) continue;
      if (!same_way(links_.between(one, node), links_.between(other, node)) ||
          !same_way(links_.between(node, one), links_.between(node, other))) {
        return false;
      }
    }
    return true;
  };
  for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) {
    DeviceIndex first = 0;
    while (first < device && !(twin_[first] == first && twins(first, device))) ++first;
    twin_.push_back(first);
  }
}

bool Search::canonical(std::span<const DeviceIndex> devices) const {
  for (std::size_t index = 0; index < devices.size(); ++index) {
    // All twins before it must have been used earlier in the list.
    for (DeviceIndex other = 0; other < devices[index]; ++other) {
      if (twin_[other] != twin_[devices[index]]) continue;
      if (!std::ranges::contains(devices.first(index), other)) return false;
    }
  }
  return true;
}

PrefillTable& Search::table(std::uint32_t chunk_tokens, std::uint32_t prefix_tokens) {
  const auto key = std::pair(chunk_tokens, prefix_tokens);
  auto found = tables_.find(key);
  if (found == tables_.end()) {
    found = tables_.emplace(key, PrefillTable(cluster_, shape_, request_, chunk_tokens, prefix_tokens)).first;
  }
  return found->second;
}

void Search::each_chunk_size(std::span<const DeviceIndex> devices,
                             const std::function<void(const PrefillTable&)>& weigh_size) {
  std::uint32_t prefix = request_.prompt_tokens - 1;
  for (const DeviceIndex device : devices) prefix = std::min(prefix, cluster_.devices[device].prefix_tokens);
  for (const std::uint32_t tokens : request_.chunk_tokens) {
    // One chunk is one chunk, however much more would fit in it.
    const bool another_is_as_good = std::ranges::any_of(request_.chunk_tokens, [&](std::uint32_t smaller) {
      return smaller < tokens && smaller >= request_.prompt_tokens;
    });
    if (another_is_as_good) continue;
    candidate_.chunk_tokens = tokens;
    weigh_size(table(tokens, prefix));
  }
}

double Search::hidden_s(DeviceIndex from, DeviceIndex to, double tokens) const {
  const Way& way = links_.between(cluster_.devices[from].node, cluster_.devices[to].node);
  return way.seconds(simulation_.hidden_bytes(tokens));
}

// Decoding on a device that has worked for so long before, with the trips of logits and tokens.
double Search::decode_s(DeviceIndex decoder, double worked_s) const {
  const Device& device = cluster_.devices[decoder];
  const double cold_s = decode_.time(decoder, {0, layers_});
  return warmed(device, worked_s + cold_s) - warmed(device, worked_s) +
         decode_.steps() * simulation_.step_trips_s(device.node, device.node);
}

// What no prediction for the candidate can be below: each stage's own work, and all hidden states on their way to the
// next, between the first chunk's way there and the last chunk's way from there; or the KV on its wire in its shortest
// form; then decoding.
double Search::bound(const PrefillTable& prefill) const {
  const std::vector<DeviceStage>& stages = candidate_.prefill;
  const std::size_t last_chunk = prefill.chunks().size() - 1;
  const double tokens = request_.prompt_tokens - prefill.chunks().front().first_position;
  const auto pass = [&](std::size_t index, std::size_t chunk) {
    return prefill.pass(stages[index].device, chunk, stages[index].layers);
  };
  const auto hop = [&](std::size_t index, double of_tokens) {
    if (index + 1 == stages.size()) return 0.0;
    const Way& way =
        links_.between(cluster_.devices[stages[index].device].node, cluster_.devices[stages[index + 1].device].node);
    return way.latency_s + way.seconds(simulation_.hidden_bytes(of_tokens));
  };
  double after = 0;  // what the last chunk has to go through behind a stage
  for (std::size_t index = 1; index < stages.size(); ++index) {
    after += hop(index - 1, prefill.chunks()[last_chunk].tokens) + pass(index, last_chunk);
  }
  double read = 0;
  double filled = 0;
  double delay = 0;
  double wire = 0;
  double decode = 0;
  const DeviceIndex decoder = candidate_.decode.front().device;
  double decoder_load = 0;
  for (std::size_t index = 0; index < stages.size(); ++index) {
    const Device& device = cluster_.devices[stages[index].device];
    const double load = prefill.load(stages[index].device, stages[index].layers);
    const double begin = std::max(filled, device.queue_s);
    read = std::max(read, begin + warmed(device, load) + after);
    const double first = begin + pass(index, 0);
    if (index + 1 < stages.size()) {
      after -= hop(index, prefill.chunks()[last_chunk].tokens);
      read = std::max(read, first + hop(index, tokens) + after);
      after -= pass(index + 1, last_chunk);
    }
    filled = first + hop(index, prefill.chunks().front().tokens);
    delay += device.streams * load * prefill.own_share(stages[index].device);
    if (stages[index].device == decoder) decoder_load = load;
    if (candidate_.decode.size() == 1 && stages[index].device != decoder) {
      const Way& way = links_.between(device.node, cluster_.devices[decoder].node);
      wire = std::max(wire, begin + way.latency_s +
                                way.seconds(simulation_.kept_bytes(stages[index].layers, codecs_.back(), prefill)));
    }
  }
  if (candidate_.decode.size() == 1) {
    decode = decode_s(decoder, decoder_load);
  } else {
    for (const DeviceStage& stage : candidate_.decode) decode += decode_.time(stage.device, stage.layers);
    for (std::size_t index = 0; index + 1 < stages.size(); ++index) decode += decode_.steps() * hop(index, 1);
    decode += decode_.steps() * simulation_.step_trips_s(cluster_.devices[decoder].node,
                                                         cluster_.devices[candidate_.decode.back().device].node);
  }
  const double begins = std::max({read + prefill.head(stages.back().device), wire,
                                  candidate_.decode.size() == 1 ? cluster_.devices[decoder].queue_s : 0.0});
  return begins + decode + delay;
}

void Search::keep(Best& best, const Prediction& prediction) {
  std::optional<Alternative>& slot = lossiness(candidate_) == 0 ? best.exact : best.lossy;
  if (slot && slot->prediction.score_s() <= prediction.score_s()) return;
  const PlanShape shape = candidate_.shape();
  std::string name(shape == PlanShape::kSingle ? cluster_.devices[candidate_.decode.front().device].name
                                               : shape_name(shape));
  slot = Alternative{std::move(name), candidate_, prediction};
}

void Search::weigh(const PrefillTable& prefill, Best& best) {
  if (bound(prefill) >= limit(best) || !feasibility_.fits(candidate_)) return;
  weigh_codecs(prefill, best);
}

void Search::weigh_codecs(const PrefillTable& prefill, Best& best) {
  std::vector<std::size_t> senders;
  for (std::size_t index = 0; index < candidate_.prefill.size(); ++index) {
    const bool sends =
        candidate_.decode.size() == 1 && candidate_.prefill[index].device != candidate_.decode.front().device;
    if (sends) senders.push_back(index);
  }
  // Counts through all combinations like an odometer.
  candidate_.codecs.assign(candidate_.prefill.size(), WireCodec::kF16);
  for (const std::size_t sender : senders) candidate_.codecs[sender] = codecs_.front();
  std::vector<std::size_t> digits(senders.size(), 0);
  while (true) {
    keep(best, simulation_.run(candidate_, prefill, decode_));
    // Codecs change nothing but when the KV is there: where the most exact is in time, the others gain nothing.
    const bool first = std::ranges::all_of(digits, [](std::size_t digit) { return digit == 0; });
    if (first && !simulation_.waited_for_kv()) return;
    std::size_t place = 0;
    while (place < digits.size() && ++digits[place] == codecs_.size()) {
      digits[place] = 0;
      candidate_.codecs[senders[place]] = codecs_.front();
      ++place;
    }
    if (place == digits.size()) return;
    candidate_.codecs[senders[place]] = codecs_[digits[place]];
  }
}

}  // namespace baton::plan
