#include "plan/simulation.h"

#include <algorithm>

namespace baton::plan {

namespace {

constexpr double kLogitsBytesPerValue = 4;

// Of a flow, what arrives at or after a moment.
double rest_after(const Flow& flow, double at_s) {
  if (at_s <= flow.begin_s) return flow.busy_s;
  if (at_s > flow.end_s) return 0;
  const double share = (flow.end_s - at_s) / (flow.end_s - flow.begin_s);
  return flow.last_slice_s + (flow.busy_s - flow.last_slice_s) * share;
}

// What arrives from a source at or after moments that come in falling order.
class Backwards {
 public:
  explicit Backwards(const std::vector<Flow>& flows) : flows_(flows), next_(flows.size()) {}
  double arriving_after(double at_s) {
    while (next_ > 0 && flows_[next_ - 1].begin_s >= at_s) whole_s_ += flows_[--next_].busy_s;
    return whole_s_ + (next_ > 0 ? rest_after(flows_[next_ - 1], at_s) : 0);
  }

 private:
  const std::vector<Flow>& flows_;
  std::size_t next_;  // flows from here on have been counted as wholes
  double whole_s_ = 0;
};

}  // namespace

double warmed(const Device& device, double cold_s) {
  if (cold_s <= device.warm_after_s) return cold_s;
  return device.warm_after_s + (cold_s - device.warm_after_s) * device.warm_slowdown;
}

double drained_at(std::span<const std::vector<Flow>> sources) {
  double drained = 0;
  if (sources.size() == 1) {  // in order: what comes last waits for what came before, and is not there sooner
    for (const Flow& flow : sources.front()) {
      drained = std::max({drained + flow.busy_s, flow.begin_s + flow.busy_s, flow.end_s + flow.last_slice_s});
    }
    return drained;
  }
  for (const std::vector<Flow>& flows : sources) {
    std::vector<Backwards> others(sources.begin(), sources.end());
    const auto consider = [&](double at_s) {
      double rest = 0;
      for (Backwards& other : others) rest += other.arriving_after(at_s);
      drained = std::max(drained, at_s + rest);
    };
    for (std::size_t index = flows.size(); index-- > 0;) {
      if (flows[index].busy_s <= 0) continue;
      consider(flows[index].end_s);
      consider(flows[index].begin_s);
    }
  }
  return drained;
}

Simulation::Simulation(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                       const LinkTable& links)
    : cluster_(cluster),
      shape_(shape),
      request_(request),
      links_(links),
      kv_values_(shape.layer_count + 1, 0),
      state_bytes_(shape.layer_count + 1, 0) {
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    kv_values_[layer + 1] = kv_values_[layer] + kv_values(shape, layer);
    state_bytes_[layer + 1] = state_bytes_[layer] + state_bytes(shape, layer);
  }
}

void Simulation::compute(const Placement& placement, const PrefillTable& table) {
  const std::size_t count = placement.prefill.size();
  const std::vector<Chunk>& chunks = table.chunks();
  if (stages_.size() < count) stages_.resize(count);
  for (std::size_t index = 0; index < count; ++index) {
    StageRun& stage = stages_[index];
    const DeviceIndex device = placement.prefill[index].device;
    stage.free_s = cluster_.devices[device].queue_s;
    stage.busy_s = stage.worked_s = stage.hidden_free_s = 0;
    stage.spans.clear();
  }
  for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk) {
    double ready = 0;
    for (std::size_t index = 0; index < count; ++index) {
      StageRun& stage = stages_[index];
      const DeviceStage& here = placement.prefill[index];
      const Device& device = cluster_.devices[here.device];
      stage.busy_s += table.pass(here.device, chunk, here.layers);
      const bool ends_model = index + 1 == count;
      if (ends_model && chunk + 1 == chunks.size()) stage.busy_s += table.head(here.device);
      const double worked = warmed(device, stage.busy_s);
      const double begin = std::max(stage.free_s, ready);
      const double took = worked - stage.worked_s;
      stage.worked_s = worked;
      stage.free_s = begin + took;
      stage.spans.push_back({begin + took / here.layers.size(), stage.free_s, 0, 0});
      if (ends_model) break;
      const Way& way = links_.between(device.node, cluster_.devices[placement.prefill[index + 1].device].node);
      const double sending = way.seconds(hidden_bytes(chunks[chunk].tokens));
      stage.hidden_free_s = std::max(stage.hidden_free_s, stage.free_s) + sending;
      transfer_s_ += sending;
      ready = stage.hidden_free_s + way.latency_s;
    }
  }
}

double Simulation::kept_bytes(LayerRange layers, WireCodec codec, const PrefillTable& table) const {
  return codec_bytes_per_value(codec) * kv_values_per_token(layers) * prompt_tokens(table) +
         state_bytes_per_chunk(layers) * static_cast<double>(table.chunks().size());
}

void Simulation::add_kept(std::size_t stage, const PrefillTable& table, LayerRange layers, Pace pace) {
  std::vector<Flow>& flows = sources_.emplace_back(stages_[stage].spans);
  const auto sending_s = [&](LayerRange part, std::uint32_t tokens) {
    return pace.per_value_s * kv_values_per_token(part) * tokens + pace.per_state_byte_s * state_bytes_per_chunk(part);
  };
  for (std::size_t chunk = 0; chunk < flows.size(); ++chunk) {
    const std::uint32_t tokens = table.chunks()[chunk].tokens;
    flows[chunk].busy_s = sending_s(layers, tokens);
    flows[chunk].last_slice_s = sending_s({layers.end - 1, layers.end}, tokens);
  }
}

void Simulation::add_hidden(std::size_t stage, const PrefillTable& table, double bytes_per_second) {
  std::vector<Flow>& flows = sources_.emplace_back(stages_[stage].spans);
  for (std::size_t chunk = 0; chunk < flows.size(); ++chunk) {
    const double sending = hidden_bytes(table.chunks()[chunk].tokens) / bytes_per_second;
    flows[chunk] = {flows[chunk].end_s, flows[chunk].end_s, sending, sending};
  }
}

double Simulation::kv_complete(const Placement& placement, const PrefillTable& table) {
  if (placement.decode.size() != 1) return 0;  // each stage decodes what it read
  const DeviceIndex decoder = placement.decode.front().device;
  const std::uint16_t to = cluster_.devices[decoder].node;
  const auto node_of = [&](std::size_t stage) { return cluster_.devices[placement.prefill[stage].device].node; };
  const std::size_t count = placement.prefill.size();
  double complete = 0;
  std::size_t senders = 0;
  for (std::size_t index = 0; index < count; ++index) {
    const DeviceStage& stage = placement.prefill[index];
    if (stage.device == decoder) continue;
    const std::uint16_t from = node_of(index);
    const Way& way = links_.between(from, to);
    const WireCodec codec = placement.codecs[index];
    const double wire_bytes = codec_bytes_per_value(codec);
    // States travel as they are, whatever the codec.
    Pace pace = {wire_bytes / way.bytes_per_second, 1 / way.bytes_per_second};
    if (codec != WireCodec::kF16) {
      const double codec_rate =
          std::min(cluster_.nodes[from].codec_bytes_per_second, cluster_.nodes[to].codec_bytes_per_second);
      pace.per_value_s = std::max(pace.per_value_s, codec_bytes_per_value(WireCodec::kF16) / codec_rate);
    }
    transfer_s_ +=
        pace.per_value_s * kv_values_per_token(stage.layers) * prompt_tokens(table) +
        pace.per_state_byte_s * state_bytes_per_chunk(stage.layers) * static_cast<double>(table.chunks().size());
    // The link, which hidden states to the decoder use too.
    const bool hidden_too = index + 1 < count;
    const bool same_link = hidden_too && placement.prefill[index + 1].device == decoder;
    sources_.clear();
    add_kept(index, table, stage.layers, pace);
    if (same_link) add_hidden(index, table, way.bytes_per_second);
    complete = std::max(complete, drained_at(sources_) + way.latency_s);
    if (!way.network) continue;
    ++senders;
    // The sender's interface, where the hidden states go elsewhere through it.
    if (hidden_too && !same_link && links_.between(from, node_of(index + 1)).network) {
      const double egress = cluster_.nodes[from].egress_bytes_per_second;
      sources_.clear();
      add_kept(index, table, stage.layers, {wire_bytes / egress, 1 / egress});
      add_hidden(index, table, egress);
      complete = std::max(complete, drained_at(sources_) + way.latency_s);
    }
  }
  return senders > 1 ? std::max(complete, ingress_drained(placement, table)) : complete;
}

// The decoder's interface, which several senders share.
double Simulation::ingress_drained(const Placement& placement, const PrefillTable& table) {
  const DeviceIndex decoder = placement.decode.front().device;
  const std::uint16_t to = cluster_.devices[decoder].node;
  const double ingress = cluster_.nodes[to].ingress_bytes_per_second;
  double latency_s = 0;
  sources_.clear();
  for (std::size_t index = 0; index < placement.prefill.size(); ++index) {
    const DeviceStage& stage = placement.prefill[index];
    if (stage.device == decoder) continue;
    const Way& way = links_.between(cluster_.devices[stage.device].node, to);
    if (!way.network) continue;
    latency_s = way.latency_s;
    add_kept(index, table, stage.layers, {codec_bytes_per_value(placement.codecs[index]) / ingress, 1 / ingress});
    if (index + 1 < placement.prefill.size() && placement.prefill[index + 1].device == decoder) {
      add_hidden(index, table, ingress);
    }
  }
  return drained_at(sources_) + latency_s;
}

double Simulation::decode(const Placement& placement, const DecodeTable& table) {
  double seconds = 0;
  const std::size_t count = placement.decode.size();
  for (std::size_t index = 0; index < count; ++index) {
    const DeviceStage& stage = placement.decode[index];
    const Device& device = cluster_.devices[stage.device];
    double before = 0;
    for (std::size_t other = 0; other < placement.prefill.size(); ++other) {
      if (placement.prefill[other].device == stage.device) before = stages_[other].busy_s;
    }
    seconds += warmed(device, before + table.time(stage.device, stage.layers)) - warmed(device, before);
    if (index + 1 == count) break;
    const Way& way = links_.between(device.node, cluster_.devices[placement.decode[index + 1].device].node);
    seconds += table.steps() * (way.latency_s + way.seconds(hidden_bytes(1)));
  }
  return seconds;
}

// Logits go to the node that samples.
double Simulation::logits_trip_s(std::uint16_t from, std::uint16_t coordinator) const {
  if (from == coordinator) return 0;
  const Way& way = links_.between(from, coordinator);
  return way.latency_s + way.seconds(kLogitsBytesPerValue * shape_.vocabulary_size);
}

// The token it draws goes to the node that begins a step.
double Simulation::step_trips_s(std::uint16_t first, std::uint16_t last) const {
  const std::uint16_t coordinator = request_.coordinator.value_or(first);
  const double token_s = coordinator == first ? 0 : links_.between(coordinator, first).latency_s;
  return logits_trip_s(last, coordinator) + token_s;
}

Prediction Simulation::run(const Placement& placement, const PrefillTable& prefill, const DecodeTable& decode_table) {
  transfer_s_ = 0;
  compute(placement, prefill);
  const std::uint16_t first_decoder = cluster_.devices[placement.decode.front().device].node;
  const std::uint16_t last_decoder = cluster_.devices[placement.decode.back().device].node;
  const std::uint16_t reader = cluster_.devices[placement.prefill.back().device].node;
  const std::uint16_t coordinator = request_.coordinator.value_or(first_decoder);
  const double token_trip = coordinator == first_decoder ? 0 : links_.between(coordinator, first_decoder).latency_s;

  Prediction prediction;
  const StageRun& last = stages_[placement.prefill.size() - 1];
  const double read_s = last.free_s;
  prediction.queue_s = cluster_.devices[placement.prefill.front().device].queue_s;
  prediction.prefill_s = read_s - prediction.queue_s;
  prediction.first_token_s = read_s + logits_trip_s(reader, coordinator);
  double ready = prediction.first_token_s + (decode_table.steps() > 0 ? token_trip : 0);
  for (const DeviceStage& stage : placement.decode) {
    if (placement.decode.size() == 1) ready = std::max(ready, cluster_.devices[stage.device].queue_s);
  }
  const double kv = kv_complete(placement, prefill);
  waited_for_kv_ = kv > ready;
  ready = std::max(ready, kv);
  prediction.exposed_s = ready - read_s;
  prediction.transfer_s = transfer_s_;
  prediction.decode_s =
      decode(placement, decode_table) + decode_table.steps() * step_trips_s(first_decoder, last_decoder);
  prediction.total_s = ready + prediction.decode_s;
  for (std::size_t index = 0; index < placement.prefill.size(); ++index) {
    const DeviceIndex device = placement.prefill[index].device;
    prediction.disturbance_s += cluster_.devices[device].streams * stages_[index].worked_s * prefill.own_share(device);
  }
  for (const DeviceStage& stage : placement.decode) {
    const Device& device = cluster_.devices[stage.device];
    prediction.disturbance_s += device.streams * decode_table.kv_read_bytes(stage.layers) / device.bytes_per_second;
  }
  prediction.chunks = static_cast<std::uint32_t>(prefill.chunks().size());
  prediction.prefix_tokens =
      prefill.chunks().empty() ? request_.prompt_tokens : prefill.chunks().front().first_position;
  return prediction;
}

}  // namespace baton::plan
