#include "plan/plan.h"

#include <gtest/gtest.h>

namespace baton::plan {
namespace {

const std::vector<NodeRef> kPeers = {{"A", "host-a:1", "aa"}, {"B", "host-b:2", "bb"}};

TEST(Plan, ReadsAndWritesTheSameText) {
  for (const std::string_view text : {"prefill=local:0-32;decode=local:0-32", "prefill=A:0-32;decode=local:0-32",
                                      "prefill=A:0-16,B:16-26,local:26-32;decode=local:0-32",
                                      "prefill=A:0-16,local:16-32;decode=A:0-16,local:16-32"}) {
    const auto plan = parse_plan(text, kPeers, 32);
    ASSERT_TRUE(plan) << plan.error().to_string();
    EXPECT_EQ(plan->to_string(), text);
  }
}

TEST(Plan, KnowsItsShape) {
  const auto shape = [](std::string_view text) { return std::string(parse_plan(text, kPeers, 32).value().shape()); };
  EXPECT_EQ(shape("prefill=local:0-32;decode=local:0-32"), "single");
  EXPECT_EQ(shape("prefill=A:0-32;decode=local:0-32"), "disaggregated");
  EXPECT_EQ(shape("prefill=A:0-26,local:26-32;decode=local:0-32"), "joint");
  EXPECT_EQ(shape("prefill=A:0-16,B:16-26,local:26-32;decode=local:0-32"), "relay");
  EXPECT_EQ(shape("prefill=A:0-16,local:16-32;decode=A:0-16,local:16-32"), "pooled");
  EXPECT_EQ(shape("prefill=A:0-16,B:16-32;decode=local:0-32"), "mixed");
}

TEST(Plan, OnlyNodesItNamesAreInIt) {
  const Plan plan = parse_plan("prefill=B:0-4;decode=local:0-4", kPeers, 4).value();
  ASSERT_EQ(plan.nodes.size(), 2u);
  EXPECT_EQ(plan.nodes[1], kPeers[1]);
}

TEST(Plan, RefusesWhatDoesNotCoverTheModelOnce) {
  for (const std::string_view text :
       {"", "prefill=local:0-4", "prefill=local:0-4;decode=local:0-3", "prefill=A:0-2,local:3-4;decode=local:0-4",
        "prefill=A:0-2,local:1-4;decode=local:0-4", "prefill=A:0-2,A:2-4;decode=local:0-4",
        "prefill=C:0-4;decode=local:0-4", "prefill=A:0-0,local:0-4;decode=local:0-4", "prefill=A;decode=local:0-4",
        "prefill=A:x-4;decode=local:0-4", "prefill=local:0-5;decode=local:0-5", "hold=local:0-4",
        "prefill=A:0-4;prefill=local:0-4;decode=local:0-4"}) {
    const auto plan = parse_plan(text, kPeers, 4);
    ASSERT_FALSE(plan) << text;
    EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument) << text;
  }
}

TEST(Plan, RefusesNodesOutsideItsList) {
  Plan plan = Plan::single(4);
  EXPECT_TRUE(plan.validate(4));
  plan.prefill[0].node = 1;
  EXPECT_FALSE(plan.validate(4));
}

TEST(Plan, FindsNeighbouringStages) {
  const Plan plan = parse_plan("prefill=A:0-1,B:1-2,local:2-4;decode=local:0-4", kPeers, 4).value();
  EXPECT_EQ(stage_before(plan.prefill, 1), nullptr);
  EXPECT_EQ(stage_before(plan.prefill, 2)->node, 1);
  EXPECT_EQ(stage_after(plan.prefill, 2)->node, kCoordinator);
  EXPECT_EQ(stage_after(plan.prefill, kCoordinator), nullptr);
  EXPECT_EQ(stage_with(plan.prefill, 3)->node, kCoordinator);
  EXPECT_EQ(stage_with(plan.prefill, 4), nullptr);
  EXPECT_EQ(stage_of(plan.decode, 1), nullptr);
}

}  // namespace
}  // namespace baton::plan
