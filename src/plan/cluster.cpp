#include "plan/cluster.h"

#include <cmath>
#include <format>
#include <set>
#include <utility>

namespace baton::plan {

namespace {

bool is_rate(double value) { return value > 0 && !std::isnan(value); }
bool is_finite_rate(double value) { return value > 0 && std::isfinite(value); }
bool is_amount(double value) { return value >= 0 && std::isfinite(value); }

Result<void> wrong(const std::string& what, const std::string& why) {
  return fail(ErrorCode::kInvalidArgument, std::format("{} {}", what, why));
}

Result<void> validate_device(const Device& device, std::size_t nodes) {
  const std::string what = "device '" + device.name + "'";
  if (device.node >= nodes) return wrong(what, std::format("is of node {}, but there are {}", device.node, nodes));
  if (!is_finite_rate(device.flops_per_second) || !is_finite_rate(device.bytes_per_second)) {
    return wrong(what, "needs FLOPs and bytes per second above 0");
  }
  if (!is_finite_rate(device.attention_factor)) return wrong(what, "needs an attention factor above 0");
  if (!is_amount(device.pass_overhead_s) || !is_amount(device.layer_overhead_s) || !is_amount(device.memory_bytes) ||
      !is_amount(device.queue_s) || !is_amount(device.stream_bytes)) {
    return wrong(what, "has an overhead, a memory or a queue that is not a number of 0 or more");
  }
  if (!(device.warm_slowdown >= 1) || !std::isfinite(device.warm_slowdown) || !(device.warm_after_s >= 0)) {
    return wrong(what, "cannot become faster by working");
  }
  if (!(device.weight_copies >= 1) || !std::isfinite(device.weight_copies)) {
    return wrong(what, "holds less than one copy of its weights");
  }
  return {};
}

}  // namespace

Result<void> Cluster::validate() const {
  if (nodes.empty() || devices.empty()) return wrong("a cluster", "needs a node with a device");
  if (nodes.size() > kMaxDevices || devices.size() > kMaxDevices) {
    return wrong("a cluster", std::format("has at most {} devices", kMaxDevices));
  }
  for (const Node& node : nodes) {
    if (!is_rate(node.egress_bytes_per_second) || !is_rate(node.ingress_bytes_per_second) ||
        !is_rate(node.internal_bytes_per_second) || !is_rate(node.codec_bytes_per_second)) {
      return wrong("node '" + node.name + "'", "has a rate that is not above 0");
    }
  }
  for (const Device& device : devices) TRY(validate_device(device, nodes.size()));
  std::set<std::pair<std::uint16_t, std::uint16_t>> seen;
  for (const Link& link : links) {
    const std::string what = std::format("link {}-{}", link.from, link.to);
    if (link.from >= nodes.size() || link.to >= nodes.size() || link.from == link.to) {
      return wrong(what, std::format("does not join two of the {} nodes", nodes.size()));
    }
    if (!seen.insert({link.from, link.to}).second) return wrong(what, "is there twice");
    if (!is_finite_rate(link.bytes_per_second) || !is_amount(link.latency_s)) {
      return wrong(what, "needs a bandwidth above 0 and a latency of 0 or more");
    }
  }
  return {};
}

void connect_all(Cluster& cluster, double bytes_per_second, double latency_s) {
  cluster.links.clear();
  for (std::size_t from = 0; from < cluster.nodes.size(); ++from) {
    cluster.nodes[from].egress_bytes_per_second = bytes_per_second;
    cluster.nodes[from].ingress_bytes_per_second = bytes_per_second;
    for (std::size_t to = 0; to < cluster.nodes.size(); ++to) {
      if (from == to) continue;
      cluster.links.push_back(
          {static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to), latency_s, bytes_per_second});
    }
  }
}

}  // namespace baton::plan
