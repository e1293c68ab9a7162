// Chooses for every request of the API which machines of the cluster do what, and tells the others what this one is
// worth: between the membership, which knows who is there, and the planner, which knows what is best.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "cluster/link_probes.h"
#include "cluster/membership.h"
#include "node/device_rates.h"
#include "node/node.h"
#include "plan/request_planner.h"
#include "serve/answer_planner.h"

namespace baton::cli {

// An answer that was planned, as GET /api/plan shows it.
struct PlannedAnswer {
  std::uint64_t answer = 0;
  std::string shape;
  std::string plan;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t new_tokens = 0;
  double predicted_first_token_s = 0;
  double first_token_s = 0;
  double predicted_total_s = 0;  // of an answer as long as it became
  double total_s = 0;
  double planning_ms = 0;
  bool recovered = false;  // a machine was lost
};

enum class PlanBy {
  kRequest,  // each is planned anew
  kFlags,    // all run as this node was told when it started
};

// Lives on the loop's thread; node, membership and probes must outlive it.
class ClusterPlanner : public serve::AnswerPlanner {
 public:
  struct Options {
    PlanBy plan_by = PlanBy::kRequest;
    plan::RequestPlanner::Options planner;
    std::string model_digest;
    node::DeviceRates rates;
  };
  ClusterPlanner(node::Node& node, cluster::Membership& membership, cluster::LinkProbes& probes, Options options);

  // What the others plan with: rates, load, links.
  void describe(cluster::NodeState& state) const;
  bool is_idle() const { return planner_.running() == 0; }

  std::unique_ptr<serve::AnswerPlan> plan(std::uint32_t prompt_tokens, std::uint32_t kept_tokens,
                                          std::uint32_t most_new_tokens) override;
  Result<std::string> explain(std::uint32_t prompt_tokens, std::uint32_t most_new_tokens) override;
  std::string latest() override;
  std::string cluster() override;

 private:
  class Planned;

  Result<plan::Decision> decide(std::uint32_t prompt_tokens, std::uint32_t kept_tokens,
                                std::uint32_t most_new_tokens) const;
  double queue_s() const;
  void note(PlannedAnswer answer, const plan::Decision& decision);

  node::Node& node_;
  cluster::Membership& membership_;
  cluster::LinkProbes& probes_;
  const Options options_;
  plan::RequestPlanner planner_;
  std::deque<PlannedAnswer> answers_;  // the latest
};

}  // namespace baton::cli
