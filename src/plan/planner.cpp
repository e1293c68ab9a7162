#include "plan/planner.h"

#include <algorithm>
#include <format>
#include <tuple>

#include "plan/search.h"

namespace baton::plan {

namespace {

bool lossy(const Alternative& plan) {
  return std::ranges::any_of(plan.placement.codecs, [](WireCodec codec) { return codec != WireCodec::kF16; });
}

// The simplest of those that nothing beats by more than a tie.
std::size_t pick(const std::vector<Alternative>& plans) {
  const auto score = [](const Alternative& plan) { return plan.prediction.score_s(); };
  const double least = score(*std::ranges::min_element(plans, {}, score));
  const auto simplicity = [&](const Alternative& plan) { return std::tuple(plan.shape(), lossy(plan), score(plan)); };
  std::size_t chosen = plans.size();
  for (std::size_t index = 0; index < plans.size(); ++index) {
    if (score(plans[index]) > least * (1 + kTie)) continue;
    if (chosen == plans.size() || simplicity(plans[index]) < simplicity(plans[chosen])) chosen = index;
  }
  return chosen;
}

// Why there is no plan, where these devices do not hold the model by themselves.
std::unexpected<Error> why_none(const Cluster& cluster, const Request& request, const std::vector<Unfit>& unfit) {
  if (unfit.size() == cluster.devices.size()) {
    const Unfit& largest = *std::ranges::max_element(unfit, {}, &Unfit::has_bytes);
    return fail(
        ErrorCode::kNoCapacity,
        std::format("no plan fits: the model and its context need {:.1f} GB on the largest device, '{}', which has "
                    "{:.1f} GB, and no devices that are linked hold them together; use a smaller weight type, a "
                    "shorter prompt or another device",
                    largest.needs_bytes / 1e9, largest.device, largest.has_bytes / 1e9));
  }
  // A plan on one device needs no link but those to a coordinator elsewhere.
  if (request.coordinator) {
    return fail(
        ErrorCode::kUnavailable,
        std::format("no plan can be carried out: no device that holds the model has links to and from node '{}', "
                    "which coordinates; link them, or coordinate on another node",
                    cluster.nodes[*request.coordinator].name));
  }
  return fail(ErrorCode::kInvalidArgument, "no plan would ever end: the devices' rates are too low for this request");
}

}  // namespace

Result<Choice> choose(const Cluster& cluster, const model::ModelShape& shape, const Request& request) {
  TRY(cluster.validate());
  TRY(request.validate());
  if (shape.layer_count == 0 || shape.layers.size() != shape.layer_count) {
    return fail(ErrorCode::kInvalidArgument, "the model's shape has no layers");
  }
  if (request.coordinator && *request.coordinator >= cluster.nodes.size()) {
    return fail(ErrorCode::kInvalidArgument, std::format("there is no node {} to coordinate", *request.coordinator));
  }
  Search search(cluster, shape, request);
  search.singles();
  search.disaggregated();
  search.joints();
  search.relays();
  Choice choice;
  choice.exhaustive = search.pools(2);
  choice.alternatives = search.results();
  for (std::size_t devices = 3; choice.alternatives.empty() && devices <= cluster.devices.size(); ++devices) {
    choice.exhaustive = search.pools(devices);
    choice.alternatives = search.results();
  }
  for (DeviceIndex device = 0; device < cluster.device_count(); ++device) {
    const double needs = search.bytes_alone(device);
    const Device& numbers = cluster.devices[device];
    if (needs > numbers.memory_bytes) choice.unfit.push_back({numbers.name, needs, numbers.memory_bytes});
  }
  if (choice.alternatives.empty()) return why_none(cluster, request, choice.unfit);
  choice.chosen = pick(choice.alternatives);
  return choice;
}

}  // namespace baton::plan
