// What the planner knows of the machines: per node its devices with fitted coefficients, memory and queue, per directed
// link its latency and bandwidth. Plain numbers, so that it does not matter who found them: a data sheet, a measurement
// when a model was loaded, or a report of another node.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace baton::plan {

using DeviceIndex = std::uint16_t;

inline constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// What computes. A pass of a chunk or of a decode step over some layers takes
//   pass_overhead + sum over layers of (layer_overhead + max(FLOPs / flops_per_second, bytes / bytes_per_second)),
// attention's FLOPs counted attention_factor times,
// and once the request kept it busy for warm_after_s, warm_slowdown times as long.
struct Device {
  std::string name;
  std::uint16_t node = 0;       // of Cluster::nodes
  double flops_per_second = 0;  // reached, not a peak
  double attention_factor = 1;  // so many times as long as another FLOP takes one of attention
  double bytes_per_second = 0;
  double pass_overhead_s = 0;
  double layer_overhead_s = 0;
  double warm_after_s = kUnlimited;
  double warm_slowdown = 1;  // 1 or more

  double memory_bytes = 0;          // that weights, KV and activations may take
  double weight_copies = 1;         // 2 where weights are also kept in a packed form
  double queue_s = 0;               // work promised to others before this request
  std::uint32_t streams = 0;        // answers being written on it now
  double stream_bytes = 0;          // KV that a step of them all reads
  std::uint32_t prefix_tokens = 0;  // of this request's prompt, whose KV it holds
};

struct Node {
  std::string name;
  // Of its network interface; all its links share them.
  double egress_bytes_per_second = kUnlimited;
  double ingress_bytes_per_second = kUnlimited;
  // Between its own devices.
  double internal_bytes_per_second = 16e9;
  // F16 values packed into a lossy codec, or unpacked, as bytes of F16 a second.
  double codec_bytes_per_second = kUnlimited;
};

// One direction. Nodes without a link do not reach each other.
struct Link {
  std::uint16_t from = 0;
  std::uint16_t to = 0;
  double latency_s = 0;
  double bytes_per_second = 0;
};

inline constexpr std::size_t kMaxDevices = 256;

struct Cluster {
  std::vector<Node> nodes;
  std::vector<Device> devices;
  std::vector<Link> links;

  std::uint16_t node_count() const { return static_cast<std::uint16_t>(nodes.size()); }
  DeviceIndex device_count() const { return static_cast<DeviceIndex>(devices.size()); }

  // No more than kMaxDevices, rates finite and positive, indices in range, at most one link for a pair.
  // kInvalidArgument with what is wrong.
  Result<void> validate() const;
};

// A link in both directions between any two nodes, which is also what each of their interfaces carries.
void connect_all(Cluster& cluster, double bytes_per_second, double latency_s);

}  // namespace baton::plan
