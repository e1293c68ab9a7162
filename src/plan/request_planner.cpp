#include "plan/request_planner.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <utility>

#include "model/kv_rows.h"

namespace baton::plan {

namespace {

// Every machine holds the model already; what it lacks shows in its free cells.
constexpr double kAmpleMemory = 1e15;
// Until answers were seen.
constexpr double kFirstAnswerTokens = 128;
constexpr double kAnswerLearningRate = 0.1;
// What a request says of machines that worked for others too.
constexpr double kCrowdedWeight = 0.1;

// The plan's nodes are those that the placement uses, this one first.
Plan plan_of(const Placement& placement, std::span<const NodeRef> nodes) {
  Plan plan;
  plan.nodes.push_back({.name = std::string(kLocalName), .address = "", .fingerprint = nodes.front().fingerprint});
  std::map<DeviceIndex, NodeIndex> known = {{DeviceIndex{0}, kCoordinator}};
  const auto stages_of = [&](const std::vector<DeviceStage>& placed) {
    Stages stages;
    for (const DeviceStage& stage : placed) {
      const auto [entry, is_new] = known.try_emplace(stage.device, static_cast<NodeIndex>(plan.nodes.size()));
      if (is_new) plan.nodes.push_back(nodes[stage.device]);
      stages.push_back({entry->second, stage.layers});
    }
    return stages;
  };
  plan.prefill = stages_of(placement.prefill);
  plan.decode = stages_of(placement.decode);
  return plan;
}

// On devices in the order of the plan's nodes.
Placement placement_of(const Plan& plan, WireCodec codec, std::uint32_t chunk_tokens) {
  Placement placement;
  for (const Stage& stage : plan.prefill) placement.prefill.push_back({stage.node, stage.layers});
  for (const Stage& stage : plan.decode) placement.decode.push_back({stage.node, stage.layers});
  placement.codecs.assign(placement.prefill.size(), codec);
  placement.chunk_tokens = chunk_tokens;
  return placement;
}

// What a node's fastest link carries, its interface does, for all its links together.
void share_interfaces(Cluster& cluster) {
  for (std::uint16_t node = 0; node < cluster.node_count(); ++node) {
    double egress = 0;
    double ingress = 0;
    for (const Link& link : cluster.links) {
      if (link.from == node) egress = std::max(egress, link.bytes_per_second);
      if (link.to == node) ingress = std::max(ingress, link.bytes_per_second);
    }
    if (egress > 0) cluster.nodes[node].egress_bytes_per_second = egress;
    if (ingress > 0) cluster.nodes[node].ingress_bytes_per_second = ingress;
  }
}

bool is_local(const Alternative& plan) {
  return plan.shape() == PlanShape::kSingle && plan.placement.decode.front().device == 0;
}

// This node alone, unless another plan gains enough.
std::size_t pick(const Choice& choice) {
  const auto local = std::ranges::find_if(choice.alternatives, is_local);
  if (local == choice.alternatives.end()) return choice.chosen;
  const double here_s = local->prediction.score_s();
  const double best_s = choice.best().prediction.score_s();
  const bool pays =
      here_s - best_s > RequestPlanner::kLeastGain_s && best_s < here_s * (1 - RequestPlanner::kLeastGain);
  return pays ? choice.chosen : static_cast<std::size_t>(local - choice.alternatives.begin());
}

}  // namespace

RequestPlanner::RequestPlanner(model::ModelShape shape, Options options)
    : shape_(std::move(shape)), options_(options), answer_tokens_(kFirstAnswerTokens) {}

std::vector<std::size_t> RequestPlanner::strongest(std::span<const Machine> machines, const Wish& wish) const {
  const std::uint64_t cells = model::block_above(std::uint64_t{wish.prompt_tokens} + wish.most_output_tokens);
  std::vector<std::size_t> able;
  for (std::size_t index = 1; index < machines.size(); ++index) {
    const Machine& machine = machines[index];
    const bool can = machine.most_chunk_tokens >= options_.chunk_tokens && machine.free_cells >= cells &&
                     !std::ranges::contains(wish.without, machine.node.fingerprint);
    if (can && check_rates(machine.rates)) able.push_back(index);
  }
  std::ranges::stable_sort(able, std::ranges::greater{},
                           [&](std::size_t index) { return machines[index].rates.flops_per_second; });
  able.resize(std::min(able.size(), kMostMachines - 1));
  able.insert(able.begin(), 0);
  return able;
}

Result<RequestPlanner::Question> RequestPlanner::ask(std::span<const Machine> machines,
                                                     std::span<const std::size_t> asked, std::span<const Link> links,
                                                     const Wish& wish, TimePoint time) const {
  if (machines.empty()) return fail(ErrorCode::kInvalidArgument, "a request is planned for at least one machine");
  Question question;
  Decision& decision = question.decision;
  std::map<std::size_t, std::uint16_t> index_of;
  for (const std::size_t index : asked) {
    const Machine& machine = machines[index];
    const std::string& id = machine.node.fingerprint;
    const auto node = static_cast<std::uint16_t>(question.nodes.size());
    index_of[index] = node;
    question.nodes.push_back(machine.node);
    Device device{.name = machine.node.name, .node = node};
    device.flops_per_second = machine.rates.flops_per_second / prefill_factor(id, time);
    device.attention_factor = machine.rates.attention_factor;
    device.bytes_per_second = machine.rates.bytes_per_second / decode_factor(id, time);
    device.memory_bytes = kAmpleMemory;
    // What it tells holds this node's own work, too, a moment later.
    device.queue_s = std::max(machine.queue_s, promised_s(id, time));
    device.streams = machine.streams;
    device.prefix_tokens = machine.kept_tokens;
    decision.others_ran |= device.queue_s > 0 || device.streams > 0;
    decision.cluster.nodes.push_back({.name = machine.node.name});
    decision.cluster.devices.push_back(std::move(device));
  }
  decision.others_ran |= !running_.empty();
  for (Link link : links) {
    const auto from = index_of.find(link.from);
    const auto to = index_of.find(link.to);
    if (from == index_of.end() || to == index_of.end()) continue;
    decision.cluster.links.push_back({from->second, to->second, link.latency_s, link.bytes_per_second});
  }
  share_interfaces(decision.cluster);
  const double expected = wish.output_tokens.value_or(answer_tokens_);
  decision.expected_tokens = std::clamp(expected, 1.0, static_cast<double>(wish.most_output_tokens));
  question.request = {.prompt_tokens = wish.prompt_tokens,
                      .output_tokens = decision.expected_tokens,
                      .coordinator = 0,
                      .codecs = {options_.codec},
                      .chunk_tokens = {options_.chunk_tokens},
                      .kv_bytes_per_value = options_.kv_bytes_per_value};
  return question;
}

Result<Decision> RequestPlanner::decide(std::span<const Machine> machines, std::span<const Link> links,
                                        const Wish& wish, TimePoint time) const {
  auto [decision, nodes, request] = TRY(ask(machines, strongest(machines, wish), links, wish, time));
  decision.choice = TRY(choose(decision.cluster, shape_, request));
  decision.choice.chosen = pick(decision.choice);
  decision.prediction = decision.choice.best().prediction;
  decision.plan = plan_of(decision.choice.best().placement, nodes);
  return decision;
}

Result<Decision> RequestPlanner::predict(std::span<const Machine> machines, std::span<const Link> links,
                                         const Wish& wish, const Plan& plan, TimePoint time) const {
  std::vector<std::size_t> asked;
  for (const NodeRef& node : plan.nodes) {
    const auto is_it = [&](const Machine& machine) { return machine.node.fingerprint == node.fingerprint; };
    // The plan's first is this node, by whatever name.
    const auto found = asked.empty() ? machines.begin() : std::ranges::find_if(machines, is_it);
    if (found == machines.end()) {
      return fail(ErrorCode::kNotFound, std::format("nobody knows how fast '{}' is", node.name));
    }
    asked.push_back(static_cast<std::size_t>(found - machines.begin()));
  }
  auto [decision, nodes, request] = TRY(ask(machines, asked, links, wish, time));
  const Placement placement = placement_of(plan, options_.codec, options_.chunk_tokens);
  decision.prediction = TRY(plan::predict(decision.cluster, shape_, request, placement));
  decision.choice.alternatives = {{std::string(plan.shape()), placement, decision.prediction}};
  decision.plan = plan;
  return decision;
}

std::uint64_t RequestPlanner::begin(const Decision& decision, TimePoint time) {
  const std::uint64_t number = next_number_++;
  // It was planned before this one came, and now shares its machines with it.
  for (auto& [earlier, other] : running_) other.crowded = true;
  Running& running = running_[number];
  running.decision = decision;
  running.began = time;
  running.crowded = decision.others_ran || running_.size() > 1;
  const TimePoint until = time + from_seconds(decision.prediction.queue_s + decision.prediction.prefill_s);
  for (const Stage& stage : decision.plan.prefill) {
    running.promised_until[decision.plan.nodes[stage.node].fingerprint] = until;
  }
  return number;
}

bool RequestPlanner::is_crowded(std::uint64_t number) const {
  const auto found = running_.find(number);
  return found != running_.end() && found->second.crowded;
}

void RequestPlanner::prefilled(std::uint64_t number) {
  if (const auto found = running_.find(number); found != running_.end()) found->second.promised_until.clear();
}

void RequestPlanner::finish(std::uint64_t number, const Outcome& outcome) {
  const auto found = running_.find(number);
  if (found == running_.end()) return;
  const Running running = std::move(found->second);
  running_.erase(found);
  if (outcome.new_tokens == 0) return;
  answer_tokens_ += kAnswerLearningRate * (outcome.new_tokens - answer_tokens_);
  if (!outcome.recovered) learn(running, outcome);
}

void RequestPlanner::learn(const Running& running, const Outcome& outcome) {
  const Decision& decision = running.decision;
  const double weight = running.crowded ? kCrowdedWeight : 1;
  const Prediction& predicted = decision.prediction;
  const auto observe = [&](const Stages& stages, Correction Learned::* phase, double expected_s, double actual_s) {
    // Stages wait for each other, so nobody can tell which of several was slow. How fast this machine is shows when it
    // works alone; so the others share what a shared plan was late by.
    const auto is_blamed = [&](const Stage& stage) { return stages.size() == 1 || stage.node != kCoordinator; };
    const auto blamed = static_cast<double>(std::ranges::count_if(stages, is_blamed));
    for (const Stage& stage : stages) {
      if (!is_blamed(stage)) continue;
      Correction& learned = learned_[decision.plan.nodes[stage.node].fingerprint].*phase;
      learned.observe(expected_s, actual_s, weight / blamed, running.began);
    }
  };
  observe(decision.plan.prefill, &Learned::prefill, predicted.first_token_s, outcome.first_token_s);
  if (outcome.new_tokens < 2 || decision.expected_tokens <= 1) return;
  const double expected_s = predicted.decode_s * (outcome.new_tokens - 1) / (decision.expected_tokens - 1);
  observe(decision.plan.decode, &Learned::decode, expected_s, outcome.decode_s);
}

double RequestPlanner::promised_s(const std::string& fingerprint, TimePoint time) const {
  double longest = 0;
  for (const auto& [number, running] : running_) {
    const auto promised = running.promised_until.find(fingerprint);
    if (promised != running.promised_until.end()) longest = std::max(longest, seconds(promised->second - time));
  }
  return longest;
}

double RequestPlanner::prefill_factor(const std::string& fingerprint, TimePoint time) const {
  const auto known = learned_.find(fingerprint);
  return known == learned_.end() ? 1 : known->second.prefill.factor(time);
}

double RequestPlanner::decode_factor(const std::string& fingerprint, TimePoint time) const {
  const auto known = learned_.find(fingerprint);
  return known == learned_.end() ? 1 : known->second.decode.factor(time);
}

}  // namespace baton::plan
