// The machines that `baton plan` plans for: by profile, or this one, measured.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "plan/cluster.h"

namespace baton::cli {

// Stands for the machine the command runs on.
inline constexpr std::string_view kThisMachine = "this";

struct MachineFlags {
  std::vector<std::string> devices;  // one node each; 'rtx4090+cpu-16' is a node with two
  std::string link = "10gbe";
};

// Equal names get a number: "spark", "spark2". `model` is what this machine is measured with, and may be empty where
// 'this' is not among the devices. Errors: kNotFound for a profile that does not exist, kInvalidArgument.
Result<plan::Cluster> make_cluster(const MachineFlags& flags, const std::string& model);

}  // namespace baton::cli
