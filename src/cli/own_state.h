// What this machine's node tells the others of its cluster of itself.
#pragma once

#include "base/clock.h"
#include "cli/cluster_planner.h"
#include "cluster/node_state.h"
#include "engine/engine.h"
#include "node/node.h"

namespace baton::cli {

// Asked twice a second; on the loop's thread.
class OwnState {
 public:
  OwnState(const engine::Model& model, const Sha256& digest, const engine::EngineOptions& options);

  cluster::NodeState now(const node::Node& node, const ClusterPlanner& planner);

 private:
  cluster::NodeState state_;
  TimePoint next_look_{};
};

}  // namespace baton::cli
