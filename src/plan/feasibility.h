// Internal to the room: whether a placement can be carried out at all.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "plan/cost_table.h"
#include "plan/links.h"
#include "plan/prediction.h"

namespace baton::plan {

class Feasibility {
 public:
  // References must live as long as this.
  Feasibility(const Cluster& cluster, const LinkTable& links, const MemoryTable& memory,
              std::optional<std::uint16_t> coordinator)
      : cluster_(cluster), links_(links), memory_(memory), coordinator_(coordinator) {}

  // Two nodes between which something would have to flow and cannot.
  std::optional<std::pair<std::uint16_t, std::uint16_t>> missing_link(const Placement& placement) const;

  // What a device holds of the placement: the layers of its prefill and of its decode, once where they overlap.
  double device_bytes(const Placement& placement, DeviceIndex device) const;
  double total_bytes(const Placement& placement) const;
  std::vector<const Device*> overfull(const Placement& placement) const;
  bool fits(const Placement& placement) const;

 private:
  std::optional<std::pair<std::uint16_t, std::uint16_t>> missing(DeviceIndex from, DeviceIndex to) const;

  const Cluster& cluster_;
  const LinkTable& links_;
  const MemoryTable& memory_;
  std::optional<std::uint16_t> coordinator_;
};

// The prefix of the prompt that every device of the placement holds; the last token is always computed.
std::uint32_t usable_prefix(const Cluster& cluster, const Request& request, const Placement& placement);

}  // namespace baton::plan
