// Models that come to a running 'baton up' by its API, and go.
#pragma once

#include <utility>

#include "cli/cluster_peers.h"
#include "cli/cluster_planner.h"
#include "cli/given_models.h"
#include "cli/up_flags.h"
#include "node/model_pool.h"
#include "plan/request_planner.h"
#include "serve/model_keeper.h"

namespace baton::cli {

// They are served as those of the command line are, by the same flags, but loaded only when they are asked for.
class UpModelIntake final : public serve::ModelIntake {
 public:
  // `peers` are the nodes that the flags may name. What comes is in `files` from then on, until it goes.
  UpModelIntake(const UpFlags& flags, ClusterPeers peers, std::shared_ptr<ServedFiles> files)
      : flags_(flags), peers_(std::move(peers)), files_(std::move(files)) {}

  // On the loop's thread, before anything is admitted. Both must outlive what comes.
  void lead_to(node::ModelPool& pool, ClusterPlanner& planner, plan::RequestPlanner::Options options);

  Result<Opened> open(const store::StoredModel& model) override;
  serve::ServerModel admit(Opened opened) override;
  void dismiss(node::PooledModel& model) override;

 private:
  const UpFlags& flags_;
  const ClusterPeers peers_;
  const std::shared_ptr<ServedFiles> files_;
  node::ModelPool* pool_ = nullptr;
  ClusterPlanner* planner_ = nullptr;
  plan::RequestPlanner::Options options_;
};

}  // namespace baton::cli
