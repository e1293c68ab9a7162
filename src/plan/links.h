// Internal to the room: the way from any device to any other.
#pragma once

#include <algorithm>
#include <vector>

#include "plan/cluster.h"

namespace baton::plan {

struct Way {
  double latency_s = 0;
  double bytes_per_second = 0;  // 0: there is none
  bool network = false;         // over the interfaces of two nodes

  bool exists() const { return bytes_per_second > 0; }
  double seconds(double bytes) const { return bytes / bytes_per_second; }
};

class LinkTable {
 public:
  explicit LinkTable(const Cluster& cluster) : nodes_(cluster.nodes.size()), ways_(nodes_ * nodes_) {
    for (std::size_t node = 0; node < nodes_; ++node) {
      ways_[node * nodes_ + node] = {0, cluster.nodes[node].internal_bytes_per_second, false};
    }
    for (const Link& link : cluster.links) {
      const double rate = std::min({link.bytes_per_second, cluster.nodes[link.from].egress_bytes_per_second,
                                    cluster.nodes[link.to].ingress_bytes_per_second});
      ways_[link.from * nodes_ + link.to] = {link.latency_s, rate, true};
    }
  }
  const Way& between(std::uint16_t from, std::uint16_t to) const { return ways_[from * nodes_ + to]; }

 private:
  std::size_t nodes_;
  std::vector<Way> ways_;
};

}  // namespace baton::plan
