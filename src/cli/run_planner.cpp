#include "cli/run_planner.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/log.h"
#include "cli/plan_report.h"
#include "cli/planning_machines.h"

namespace baton::cli {

namespace {

// What is known of the machines, or why nothing is.
Result<PlanningMachines> known_machines(const ClusterPeers& peers, const RunQuestion& question) {
  if (peers.reports().empty()) {
    return fail(ErrorCode::kUnavailable,
                "no node of a cluster runs on this machine ('baton up'), so nobody knows how fast the others are");
  }
  auto found = planning_machines(peers.reports(), question.model_digest, question.shape.layer_count);
  if (!plan::check_rates(found.machines.front().rates)) {
    return fail(ErrorCode::kNotFound, "the node that runs on this machine holds another model");
  }
  return found;
}

void note_prediction(PlannedResult& note, const plan::Decision& decision, std::uint32_t layers) {
  const plan::Prediction& predicted = decision.prediction;
  note.expected_tokens = decision.expected_tokens;
  note.predicted_queue_s = predicted.queue_s;
  note.predicted_prefill_s = predicted.prefill_s;
  note.predicted_exposed_s = predicted.exposed_s;
  note.predicted_first_token_s = predicted.first_token_s;
  note.predicted_decode_s = predicted.decode_s;
  note.predicted_total_s = predicted.total_s;
  for (const PlanRow& row : make_report(decision.cluster, decision.choice, layers).plans) {
    note.weighed.push_back({row.name, row.plan, row.total_s});
  }
}

// By what was told of the others when the request began, and is known to be no longer so of those that were lost.
std::optional<plan::Plan> replan(const ClusterPeers& peers, const RunQuestion& question, double expected_tokens,
                                 const node::Loss& loss) {
  const auto decided = [&]() -> Result<plan::Decision> {
    PlanningMachines known = TRY(known_machines(peers, question));
    known.machines.front().kept_tokens = loss.held_tokens;
    for (plan::Machine& machine : known.machines) {
      const bool holds = loss.held_elsewhere && loss.held_elsewhere->fingerprint == machine.node.fingerprint;
      if (holds) machine.kept_tokens = loss.held_elsewhere->tokens;
    }
    const plan::RequestPlanner planner(question.shape, question.options);
    const auto written = static_cast<double>(question.wish.most_output_tokens - loss.tokens_left);
    return planner.decide(known.machines, known.links,
                          {.prompt_tokens = static_cast<std::uint32_t>(loss.text.size()),
                           .most_output_tokens = loss.tokens_left,
                           .output_tokens = std::max(expected_tokens - written, 1.0),
                           .without = loss.lost},
                          now());
  }();
  if (decided) return decided->plan;
  log::info("not planned anew, this machine goes on alone: {}", decided.error().to_string());
  return std::nullopt;
}

}  // namespace

RunPlan plan_in_cluster(const ClusterPeers& peers, const RunQuestion& question) {
  const TimePoint began = now();
  RunPlan chosen{plan::Plan::single(question.shape.layer_count), {.by = "default"}};
  const plan::RequestPlanner planner(question.shape, question.options);
  const auto decided = [&]() -> Result<plan::Decision> {
    const PlanningMachines known = TRY(known_machines(peers, question));
    return planner.decide(known.machines, known.links, question.wish, now());
  }();
  chosen.note.planning_ms = seconds(now() - began) * 1e3;
  if (decided) {
    chosen.plan = decided->plan;
    chosen.note.by = "planner";
    chosen.replan = [&peers, question, expected_tokens = decided->expected_tokens](const node::Loss& loss) {
      return replan(peers, question, expected_tokens, loss);
    };
    note_prediction(chosen.note, *decided, question.shape.layer_count);
  } else {
    chosen.note.problem = decided.error().message;
    log::info("not planned, this machine works alone: {}", decided.error().to_string());
  }
  chosen.note.plan = chosen.plan.to_string();
  chosen.note.shape = chosen.plan.shape();
  return chosen;
}

RunPlan plan_by_flags(plan::Plan plan, const ClusterPeers& peers, const RunQuestion& question) {
  RunPlan chosen{std::move(plan), {.by = "flags"}};
  const plan::RequestPlanner planner(question.shape, question.options);
  const auto predicted = [&]() -> Result<plan::Decision> {
    const PlanningMachines known = TRY(known_machines(peers, question));
    return planner.predict(known.machines, known.links, question.wish, chosen.plan, now());
  }();
  if (predicted) {
    note_prediction(chosen.note, *predicted, question.shape.layer_count);
  } else {
    chosen.note.problem = predicted.error().message;
  }
  chosen.note.plan = chosen.plan.to_string();
  chosen.note.shape = chosen.plan.shape();
  return chosen;
}

void complete(PlannedResult& note, const node::RequestTimings& timings, std::size_t new_tokens) {
  note.actual_first_token_s = timings.first_token_s;
  note.actual_total_s = timings.total_s;
  if (note.predicted_total_s <= 0) return;
  // Of an answer as long as this one became.
  double decode_s = 0;
  if (note.expected_tokens > 1 && new_tokens > 1) {
    decode_s = note.predicted_decode_s * static_cast<double>(new_tokens - 1) / (note.expected_tokens - 1);
  }
  note.predicted_total_s += decode_s - note.predicted_decode_s;
  note.predicted_decode_s = decode_s;
  note.expected_tokens = static_cast<double>(new_tokens);
}

}  // namespace baton::cli
