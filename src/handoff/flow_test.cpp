#include "handoff/flow.h"

#include <gtest/gtest.h>

#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;

Flow flow_between(std::string_view plan, plan::NodeIndex sender, plan::NodeIndex receiver) {
  Open open = open_of(plan, 10, 4);
  open.sender = sender;
  open.receiver = receiver;
  return flow_of(open, widths());
}

TEST(Flow, HasALaneForEverythingThatALayerKeeps) {
  Widths of = widths();
  of.kept = {{.k_values = 8, .v_values = 8},
             {.k_values = 12},
             {.state_values = 20},
             {.k_values = 8, .v_values = 4, .state_values = 5}};
  Open open = open_of(kDisaggregated, 10, 4);
  open.codec = DType::kF16;
  const Flow flow = flow_of(open, of);
  using enum SliceKind;
  EXPECT_EQ(flow.kept, (std::vector<KeptLane>{{kKv, 0}, {kLatent, 1}, {kRecurrent, 2}, {kKv, 3}, {kRecurrent, 3}}));
  EXPECT_EQ(flow.prefill_slices(), 3 * 5 + 1u);
  // K and V of 16 values, a latent of 12 and rows of 12 in halves for each token; states of 20 and 5 for each chunk.
  EXPECT_EQ(flow.prefill_bytes(of), 10 * 2 * (16 + 12 + 12) + 3 * 4 * (20 + 5) + 4 * of.logits_values);
  EXPECT_TRUE(flow.contains({kRecurrent, 2, 4, 4}));
  EXPECT_FALSE(flow.contains({kKv, 2, 4, 4})) << "the layer has no rows";
  EXPECT_FALSE(flow.contains({kRecurrent, 0, 4, 4})) << "the layer has no state";
  EXPECT_FALSE(flow.contains({kKv, 1, 4, 4})) << "its rows are latent";
  open.codec = DType::kQ8_0;
  EXPECT_EQ(flow_of(open, of).dtypes(kRecurrent)[0], DType::kF32) << "whatever the codec";
}

TEST(Flow, OfEveryPairOfEveryPlan) {
  const Flow disaggregated = flow_between(kDisaggregated, 1, 0);
  EXPECT_EQ(disaggregated.kv, (LayerRange{0, 4}));
  EXPECT_TRUE(disaggregated.prefill_logits);
  EXPECT_FALSE(disaggregated.decode_logits || disaggregated.prefill_hidden || disaggregated.decode_hidden);
  EXPECT_TRUE(disaggregated.steps);

  const Flow joint = flow_between(kJoint, 1, 0);
  EXPECT_EQ(joint.kv, (LayerRange{0, 2}));
  EXPECT_EQ(joint.prefill_hidden, 2u);
  EXPECT_FALSE(joint.prefill_logits);

  constexpr std::string_view kRelay = "prefill=A:0-1,B:1-3,local:3-4;decode=local:0-4";
  EXPECT_EQ(flow_between(kRelay, 1, 2).prefill_hidden, 1u);
  EXPECT_TRUE(flow_between(kRelay, 1, 2).kv.empty());
  EXPECT_FALSE(flow_between(kRelay, 1, 2).steps);
  EXPECT_EQ(flow_between(kRelay, 1, 0).kv, (LayerRange{0, 1}));
  EXPECT_FALSE(flow_between(kRelay, 1, 0).prefill_hidden);
  EXPECT_EQ(flow_between(kRelay, 2, 0).kv, (LayerRange{1, 3}));
  EXPECT_EQ(flow_between(kRelay, 2, 0).prefill_hidden, 3u);
  EXPECT_TRUE(flow_between(kRelay, 2, 1).empty());

  const Flow to_a = flow_between(kPooled, 0, 1);
  EXPECT_EQ(to_a.prefill_hidden, 2u);
  EXPECT_EQ(to_a.decode_hidden, 2u);
  EXPECT_TRUE(to_a.kv.empty());
  EXPECT_FALSE(to_a.prefill_logits || to_a.steps);
  const Flow from_a = flow_between(kPooled, 1, 0);
  EXPECT_TRUE(from_a.prefill_logits && from_a.decode_logits);
}

TEST(Flow, NeedsATransferWhereSomethingFlowsOrTheCoordinatorListens) {
  const auto plan = plan_of("prefill=A:0-1,B:1-3,local:3-4;decode=local:0-4");
  EXPECT_EQ(transfer_need(plan, 1, 2), Need::kTransfer);
  EXPECT_EQ(transfer_need(plan, 2, 1), Need::kNone);
  EXPECT_EQ(transfer_need(plan, 1, 0), Need::kTransfer);
  EXPECT_EQ(transfer_need(plan, 0, 1), Need::kNone);
  EXPECT_EQ(transfer_need(plan, 1, 1), Need::kNone);
  // A node that only decodes sends nothing to the coordinator but logits, or nothing at all.
  const auto remote = plan_of("prefill=local:0-4;decode=A:0-2,local:2-4");
  EXPECT_EQ(transfer_need(remote, 1, 0), Need::kTransfer);
  EXPECT_EQ(transfer_need(remote, 0, 1), Need::kTransfer);
}

TEST(Flow, KnowsItsSlices) {
  const Flow flow = flow_between(kPooled, 1, 0);
  EXPECT_TRUE(flow.contains({SliceKind::kLogits, 4, 9, 1}));
  EXPECT_TRUE(flow.contains({SliceKind::kLogits, 4, 10, 1}));
  EXPECT_TRUE(flow.contains({SliceKind::kLogits, 4, 13, 1}));
  EXPECT_FALSE(flow.contains({SliceKind::kLogits, 4, 14, 1})) << "only four new tokens";
  EXPECT_FALSE(flow.contains({SliceKind::kLogits, 4, 8, 1}));
  EXPECT_FALSE(flow.contains({SliceKind::kLogits, 3, 9, 1}));
  EXPECT_FALSE(flow.contains({SliceKind::kLogits, 4, 9, 2}));
  EXPECT_FALSE(flow.contains({SliceKind::kKv, 0, 0, 4}));

  const Flow joint = flow_between(kJoint, 1, 0);
  EXPECT_TRUE(joint.contains({SliceKind::kKv, 1, 8, 2}));
  EXPECT_FALSE(joint.contains({SliceKind::kKv, 2, 8, 2}));
  EXPECT_FALSE(joint.contains({SliceKind::kKv, 1, 8, 4}));
  EXPECT_FALSE(joint.contains({SliceKind::kKv, 1, 2, 4}));
  EXPECT_FALSE(joint.contains({SliceKind::kKv, 1, 0, 0}));
  EXPECT_FALSE(joint.contains({SliceKind::kKv, 1, 0xffffffff, 4}));
  EXPECT_FALSE(joint.contains({SliceKind::kLatent, 1, 0, 4}));
  EXPECT_FALSE(joint.contains({SliceKind::kHidden, 2, 10, 1})) << "decode runs elsewhere";
}

TEST(Flow, CountsSlicesAndBytes) {
  const Flow joint = flow_between(kJoint, 1, 0);
  EXPECT_EQ(joint.prefill_slices(), 9u);  // 3 chunks of 2 layers and a hidden state
  EXPECT_EQ(joint.prefill_bytes(widths()), 10u * (2 * (8 + 8) * 2 + 6 * 4));
  EXPECT_EQ(joint.largest_slice_bytes(widths()), 4u * (8 + 8) * 2);
  EXPECT_EQ(flow_between(kPooled, 1, 0).prefill_bytes(widths()), 5u * 4);
  EXPECT_EQ(joint.prefill_slices(), prefill_keys(joint).size());
}

}  // namespace
}  // namespace baton::handoff
