#include "cli/planning_machines.h"

#include <gtest/gtest.h>

#include "cli/run_planner.h"
#include "plan/model_shapes.h"

namespace baton::cli {
namespace {

constexpr std::uint32_t kLayers = 32;

cluster::NodeReport node(const std::string& name, const std::string& status, const std::string& digest = "d1") {
  cluster::NodeReport report;
  report.name = name;
  report.id = "id-" + name;
  report.status = status;
  report.address = "192.0.2.7:1";
  report.state.models = {{.name = "m",
                          .digest = digest,
                          .layers_begin = 0,
                          .layers_end = kLayers,
                          .layer_count = kLayers,
                          .context_tokens = 4096,
                          .chunk_tokens = 512,
                          .rates = {.prefill_tokens_per_s = 1,
                                    .decode_tokens_per_s = 1,
                                    .flops_per_second = 1e12,
                                    .attention_factor = 1,
                                    .bytes_per_second = 1e11},
                          .free_cells = 1 << 20}};
  return report;
}

TEST(PlanningMachines, PutsThisNodeFirstAndLeavesOutWhoCannotHelp) {
  cluster::NodeReport half = node("half", "alive");
  half.state.models.front().layers_end = 16;
  cluster::NodeReport bare = node("bare", "alive");
  bare.state.models.clear();
  cluster::NodeReport later = node("later", "alive");
  later.state.models.front().loaded = false;
  const std::vector nodes = {node("far", "alive"),
                             node("dead", "down"),
                             node("me", "self"),
                             node("slow", "suspected"),
                             node("other", "alive", "d2"),
                             half,
                             bare,
                             later};
  const PlanningMachines found = planning_machines(nodes, "d1", kLayers);
  ASSERT_EQ(found.machines.size(), 2u);
  EXPECT_EQ(found.machines[0].node.name, "me");
  EXPECT_EQ(found.machines[0].node.address, "");
  EXPECT_EQ(found.machines[1].node.name, "far");
  EXPECT_EQ(found.machines[1].node.address, "192.0.2.7:1");
  EXPECT_EQ(found.machines[1].node.fingerprint, "id-far");
  EXPECT_TRUE(found.links.empty());
}

TEST(PlanningMachines, BelievesItsOwnMeasurementOfALinkBeforeThePeers) {
  cluster::NodeReport me = node("me", "self");
  cluster::NodeReport far = node("far", "alive");
  me.state.links = {{.peer = "id-far", .round_trip_ms = 2, .to_bytes_per_second = 100, .from_bytes_per_second = 0},
                    {.peer = "id-gone", .round_trip_ms = 1, .to_bytes_per_second = 5, .from_bytes_per_second = 5}};
  far.state.links = {{.peer = "id-me", .round_trip_ms = 9, .to_bytes_per_second = 70, .from_bytes_per_second = 7}};
  const std::vector nodes = {far, me};
  const PlanningMachines found = planning_machines(nodes, "d1", kLayers);
  ASSERT_EQ(found.links.size(), 2u);
  EXPECT_EQ(found.links[0].from, 0);
  EXPECT_EQ(found.links[0].bytes_per_second, 100);
  EXPECT_EQ(found.links[0].latency_s, 0.001);
  EXPECT_EQ(found.links[1].from, 1);
  EXPECT_EQ(found.links[1].bytes_per_second, 70);
}

TEST(PlanningMachines, AskNothingOfANodeThatHoldsAnotherModelHere) {
  const std::vector nodes = {node("me", "self", "d2"), node("far", "alive")};
  const PlanningMachines found = planning_machines(nodes, "d1", kLayers);
  EXPECT_FALSE(plan::check_rates(found.machines.front().rates));
}

TEST(RunPlanner, StaysAloneWhereNothingIsKnownAndSaysWhy) {
  const model::ModelShape shape = plan::find_model_shape("llama-3.1-8b-f16").value();
  const RunQuestion question{.shape = shape, .model_digest = "d1", .wish = {8192, 32}, .options = {}};
  const RunPlan chosen = plan_in_cluster(ClusterPeers(net::Fingerprint()), question);
  EXPECT_EQ(chosen.plan, plan::Plan::single(kLayers));
  EXPECT_EQ(chosen.note.by, "default");
  EXPECT_FALSE(chosen.note.problem.empty());
  EXPECT_EQ(chosen.note.predicted_total_s, 0);
}

TEST(RunPlanner, PredictsAnAnswerAsLongAsItBecame) {
  PlannedResult note{.expected_tokens = 11, .predicted_decode_s = 1, .predicted_total_s = 3};
  complete(note, {.first_token_s = 2.1, .total_s = 2.7}, 6);
  EXPECT_DOUBLE_EQ(note.predicted_decode_s, 0.5);
  EXPECT_DOUBLE_EQ(note.predicted_total_s, 2.5);
  EXPECT_DOUBLE_EQ(note.actual_total_s, 2.7);
}

}  // namespace
}  // namespace baton::cli
