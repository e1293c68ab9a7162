// What the planner is told of a cluster: the machines that hold a model, and the links between them, as its nodes tell.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cluster/control.h"
#include "plan/cluster.h"
#include "plan/request_planner.h"

namespace baton::cli {

struct PlanningMachines {
  std::vector<plan::Machine> machines;  // this node first
  std::vector<plan::Link> links;        // by the machines' indices
};

// Of `nodes` this one, without rates where it has not loaded the model, and those that are alive and have loaded the
// whole model of this digest, all of its layers. What a node has measured of a link itself counts before what its peer
// tells.
PlanningMachines planning_machines(std::span<const cluster::NodeReport> nodes, const std::string& model_digest,
                                   std::uint32_t layers);

}  // namespace baton::cli
