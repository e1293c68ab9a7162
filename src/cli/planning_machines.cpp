#include "cli/planning_machines.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "cluster/link_probes.h"

namespace baton::cli {

namespace {

bool is(const cluster::NodeReport& node, cluster::PeerStatus status) {
  return node.status == cluster::peer_status_name(status);
}

// The links of one node.
void add_links(std::vector<plan::Link>& links, std::uint16_t from, const std::vector<cluster::LinkState>& told,
               const std::map<std::string, std::uint16_t>& index_of) {
  for (const cluster::LinkState& link : told) {
    const auto to = index_of.find(link.peer);
    if (to == index_of.end() || to->second == from) continue;
    const double latency_s = link.round_trip_ms / 2e3;
    const auto add = [&](std::uint16_t one, std::uint16_t other, double bytes_per_second) {
      const auto is_same = [&](const plan::Link& known) { return known.from == one && known.to == other; };
      if (!(bytes_per_second > 0) || !std::isfinite(bytes_per_second) || !(latency_s >= 0) ||
          !std::isfinite(latency_s) || std::ranges::any_of(links, is_same)) {
        return;
      }
      links.push_back({one, other, latency_s, bytes_per_second});
    };
    add(from, to->second, link.to_bytes_per_second);
    add(to->second, from, link.from_bytes_per_second);
  }
}

// Where it has loaded the whole model.
std::optional<plan::Machine> machine_of(const cluster::NodeReport& node, const std::string& model_digest,
                                        std::uint32_t layers) {
  const cluster::NodeState& told = node.state;
  const auto model = std::ranges::find_if(told.models, [&](const cluster::ModelState& one) {
    return one.digest == model_digest && one.loaded && one.layers_begin == 0 && one.layers_end == layers;
  });
  if (model == told.models.end()) return std::nullopt;
  plan::Machine machine;
  machine.rates = {model->rates.flops_per_second, model->rates.attention_factor, model->rates.bytes_per_second};
  machine.most_chunk_tokens = model->chunk_tokens;
  machine.free_cells = model->free_cells;
  if (std::isfinite(told.load.queue_s)) machine.queue_s = std::max(0.0, told.load.queue_s);
  machine.streams = told.load.streams;
  return machine;
}

}  // namespace

PlanningMachines planning_machines(std::span<const cluster::NodeReport> nodes, const std::string& model_digest,
                                   std::uint32_t layers) {
  PlanningMachines found;
  found.machines.resize(1);
  std::vector<const cluster::NodeReport*> reports(1);
  for (const cluster::NodeReport& node : nodes) {
    auto machine = machine_of(node, model_digest, layers);
    if (is(node, cluster::PeerStatus::kSelf)) {
      if (!machine) machine.emplace();
      machine->node = {.name = node.name, .address = {}, .fingerprint = node.id};
      found.machines.front() = *std::move(machine);
      reports.front() = &node;
      continue;
    }
    const auto endpoint = cluster::work_endpoint(node.state, node.address);
    if (!is(node, cluster::PeerStatus::kAlive) || !machine || !endpoint) continue;
    machine->node = {.name = node.name, .address = endpoint->to_string(), .fingerprint = node.id};
    found.machines.push_back(*std::move(machine));
    reports.push_back(&node);
  }
  std::map<std::string, std::uint16_t> index_of;
  for (const plan::Machine& machine : found.machines) {
    index_of.emplace(machine.node.fingerprint, static_cast<std::uint16_t>(index_of.size()));
  }
  // This node's own first: what it measured itself counts, also where the other tells something else.
  for (std::uint16_t index = 0; index < reports.size(); ++index) {
    if (reports[index] != nullptr) add_links(found.links, index, reports[index]->state.links, index_of);
  }
  return found;
}

}  // namespace baton::cli
