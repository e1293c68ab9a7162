// What this machine's node tells the others of its cluster of itself.
#pragma once

#include "base/clock.h"
#include "cli/cluster_planner.h"
#include "cluster/node_state.h"

namespace baton::cli {

// Asked twice a second; on the loop's thread.
class OwnState {
 public:
  cluster::NodeState now(const ClusterPlanner& planner);

 private:
  cluster::NodeState state_;
  TimePoint next_look_{};
};

}  // namespace baton::cli
