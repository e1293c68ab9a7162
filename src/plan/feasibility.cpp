#include "plan/feasibility.h"

#include <algorithm>

namespace baton::plan {

using NodePair = std::pair<std::uint16_t, std::uint16_t>;

std::optional<NodePair> Feasibility::missing(DeviceIndex from, DeviceIndex to) const {
  const std::uint16_t sender = cluster_.devices[from].node;
  const std::uint16_t receiver = cluster_.devices[to].node;
  if (links_.between(sender, receiver).exists()) return std::nullopt;
  return NodePair{sender, receiver};
}

std::optional<NodePair> Feasibility::missing_link(const Placement& placement) const {
  for (const auto* stages : {&placement.prefill, &placement.decode}) {
    for (std::size_t index = 0; index + 1 < stages->size(); ++index) {
      if (const auto gap = missing((*stages)[index].device, (*stages)[index + 1].device)) return gap;
    }
  }
  if (placement.decode.size() == 1) {
    for (const DeviceStage& stage : placement.prefill) {
      if (const auto gap = missing(stage.device, placement.decode.front().device)) return gap;
    }
  }
  if (coordinator_) {
    const std::uint16_t first = cluster_.devices[placement.decode.front().device].node;
    const std::uint16_t last = cluster_.devices[placement.decode.back().device].node;
    const std::uint16_t reader = cluster_.devices[placement.prefill.back().device].node;
    for (const NodePair& way :
         {NodePair{reader, *coordinator_}, NodePair{last, *coordinator_}, NodePair{*coordinator_, first}}) {
      if (!links_.between(way.first, way.second).exists()) return way;
    }
  } else if (placement.decode.size() > 1) {
    return missing(placement.decode.back().device, placement.decode.front().device);
  }
  return std::nullopt;
}

double Feasibility::device_bytes(const Placement& placement, DeviceIndex device) const {
  const auto range_in = [&](const std::vector<DeviceStage>& stages) {
    const auto found = std::ranges::find(stages, device, &DeviceStage::device);
    return found == stages.end() ? LayerRange{} : found->layers;
  };
  // The decoder's range covers its prefill's in every shape.
  const LayerRange decodes = range_in(placement.decode);
  const LayerRange holds = decodes.empty() ? range_in(placement.prefill) : decodes;
  return holds.empty() ? 0 : memory_.stage_bytes(cluster_.devices[device], holds, placement.chunk_tokens);
}

double Feasibility::total_bytes(const Placement& placement) const {
  double bytes = 0;
  for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) bytes += device_bytes(placement, device);
  return bytes;
}

std::vector<const Device*> Feasibility::overfull(const Placement& placement) const {
  std::vector<const Device*> found;
  for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) {
    if (device_bytes(placement, device) > cluster_.devices[device].memory_bytes) {
      found.push_back(&cluster_.devices[device]);
    }
  }
  return found;
}

bool Feasibility::fits(const Placement& placement) const {
  const auto fit = [&](const DeviceStage& stage) {
    return device_bytes(placement, stage.device) <= cluster_.devices[stage.device].memory_bytes;
  };
  return std::ranges::all_of(placement.prefill, fit) && std::ranges::all_of(placement.decode, fit);
}

std::uint32_t usable_prefix(const Cluster& cluster, const Request& request, const Placement& placement) {
  std::uint32_t tokens = request.prompt_tokens - 1;
  for (const auto* stages : {&placement.prefill, &placement.decode}) {
    for (const DeviceStage& stage : *stages) tokens = std::min(tokens, cluster.devices[stage.device].prefix_tokens);
  }
  return tokens;
}

}  // namespace baton::plan
