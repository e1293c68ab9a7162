// Machines one may not own: what their makers and others published of them, and how much of a peak a model was seen to
// reach. Everything predicted from them is a prediction; no figure here was measured by us unless it says so.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "plan/cluster.h"

namespace baton::plan {

struct DeviceProfile {
  std::string_view name;
  std::string_view title;
  double peak_teraflops = 0;             // of 16-bit products with 32-bit sums, without sparsity
  double peak_gigabytes_per_second = 0;  // of memory
  double compute_efficiency = 0;         // of the peak, in a prefill
  double memory_efficiency = 0;          // of the peak, in a decode
  double memory_gigabytes = 0;           // there is
  double usable_memory = 0;              // part of it that a model may take
  std::string_view peak_source;
  std::string_view efficiency_source;
  std::string_view memory_source;

  // Its effective rates, idle; `node` is the index of the node that it is put into.
  Device device(std::uint16_t node) const;
};

std::span<const DeviceProfile> device_profiles();

// kNotFound with the names there are.
Result<DeviceProfile> find_device_profile(std::string_view name);

struct LinkProfile {
  std::string_view name;
  double bytes_per_second = 0;  // of TCP payload
  double latency_s = 0;
  std::string_view source;
};

std::span<const LinkProfile> link_profiles();

// By name ("10gbe"), or as "GBIT[:LATENCY_MS]" in payload; kInvalidArgument with the names there are.
Result<LinkProfile> find_link_profile(std::string_view text);

}  // namespace baton::plan
