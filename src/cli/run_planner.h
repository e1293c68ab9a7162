// Which machines work for a `baton run`: those that its flags name, or, in a cluster, those that the planner chooses.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/cluster_peers.h"
#include "cli/run_result.h"
#include "plan/request_planner.h"

namespace baton::cli {

struct RunPlan {
  plan::Plan plan;
  PlannedResult note;
  // Where the planner chose: what RequestOptions::replan wants. For as long as the peers and the model live.
  std::function<std::optional<plan::Plan>(const node::Loss&)> replan = {};
};

// What there is to plan with. `model_digest` is that of the file, hexadecimal.
struct RunQuestion {
  const model::ModelShape& shape;
  std::string model_digest;
  plan::Wish wish;
  plan::RequestPlanner::Options options;
};

// The best plan with the nodes of this machine's cluster, by what they tell of themselves. Where that cannot be said
// (no node runs here, or it holds another model), this machine alone, and the note says why.
RunPlan plan_in_cluster(const ClusterPeers& peers, const RunQuestion& question);

// What a plan that was given by flags is predicted to take; the note says why where nothing can be predicted.
RunPlan plan_by_flags(plan::Plan plan, const ClusterPeers& peers, const RunQuestion& question);

// After the request: what it took stands beside what was predicted.
void complete(PlannedResult& note, const node::RequestTimings& timings, std::size_t new_tokens);

}  // namespace baton::cli
