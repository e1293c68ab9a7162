// Chooses for every request of the API which machines of the cluster do what, and tells the others what this one is
// worth: between the membership, which knows who is there, and the planners, which know what is best.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cluster/link_probes.h"
#include "cluster/membership.h"
#include "node/model_pool.h"
#include "plan/left_texts.h"
#include "plan/request_planner.h"
#include "serve/answer_planner.h"

namespace baton::cli {

enum class PlanBy {
  kRequest,  // each is planned anew
  kFlags,    // all run as this node was told when it started
};

class ClusterPlanner;

// Plans the answers of one model. Lives on the loop's thread, as long as the planner of the cluster does.
class ModelPlanner : public serve::AnswerPlanner {
 public:
  ModelPlanner(ClusterPlanner& cluster, const node::PooledModel& model, plan::RequestPlanner::Options options);

  std::unique_ptr<serve::AnswerPlan> plan(std::span<const Token> prompt, std::uint32_t kept_tokens,
                                          std::uint32_t most_new_tokens) override;
  Result<std::string> explain(std::uint32_t prompt_tokens, std::uint32_t most_new_tokens) override;

  // Of this machine's time: what is promised, or waits to be read.
  double queue_s() const;
  std::size_t running() const { return planner_.running(); }
  cluster::ModelState state() const;
  bool is_of(const node::PooledModel& model) const { return &model == &model_; }

 private:
  class Planned;

  // `text` is what is to be read, of which this machine has the first `kept_tokens`, and another those `elsewhere`;
  // empty where nobody knows it yet.
  Result<plan::Decision> decide(const plan::Wish& wish, std::span<const Token> text, std::uint32_t kept_tokens,
                                const std::optional<node::HeldElsewhere>& elsewhere = std::nullopt) const;

  ClusterPlanner& cluster_;
  const node::PooledModel& model_;
  const plan::RequestPlanner::Options options_;
  plan::RequestPlanner planner_;
  plan::LeftTexts left_texts_;  // of answers that others wrote
};

// Lives on the loop's thread; node, membership and probes must outlive it.
class ClusterPlanner : public serve::ClusterReporter {
 public:
  ClusterPlanner(const node::Node& node, cluster::Membership& membership, cluster::LinkProbes& probes, PlanBy plan_by);

  // What is returned lives as long as this, or until the model is removed, which must not go before.
  serve::AnswerPlanner& add(const node::PooledModel& model, const plan::RequestPlanner::Options& options);
  // Nobody plans for it any more.
  void remove(const node::PooledModel& model);

  // What the others plan with: models, rates, load, links.
  void describe(cluster::NodeState& state) const;
  bool is_idle() const { return running() == 0; }

  std::string latest(const std::deque<serve::AnswerRecord>& ended) override;
  std::string cluster() override;

 private:
  friend class ModelPlanner;

  std::string own_id() const { return membership_.identity().fingerprint().to_string(); }
  std::size_t running() const;
  double queue_s() const;
  enum class Company { kAlone, kOthersRan };
  // An answer has ended that was to take so long, and began by this plan.
  void compare(std::uint64_t answer, const serve::AnswerPrediction& predicted, const serve::AnswerCourse& course,
               const plan::Plan& plan, Company company);

  const node::Node& node_;
  cluster::Membership& membership_;
  cluster::LinkProbes& probes_;
  const PlanBy plan_by_;
  std::vector<std::unique_ptr<ModelPlanner>> planners_;
};

}  // namespace baton::cli
