#include "handoff/ledger.h"

#include <gtest/gtest.h>

#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;
using State = SliceLedger::State;

SliceKey kv(std::uint32_t layer, std::uint32_t first, std::uint32_t tokens) {
  return {SliceKind::kKv, layer, first, tokens};
}

TEST(SliceLedger, CountsPositionsWithoutAGap) {
  SliceLedger ledger(flow_of(open_of(kJoint, 10, 4), widths()));
  EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, 0), 0u);
  ledger.received(kv(0, 4, 4));
  EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, 0), 0u);
  ledger.received(kv(0, 0, 4));
  EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, 0), 8u);
  EXPECT_EQ(ledger.held_up_to(SliceKind::kKv, 0), 0u);
  ledger.held(kv(0, 4, 4));
  EXPECT_EQ(ledger.held_up_to(SliceKind::kKv, 0), 0u);
  ledger.held(kv(0, 0, 4));
  EXPECT_EQ(ledger.held_up_to(SliceKind::kKv, 0), 8u);
  EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, 1), 0u);
  EXPECT_EQ(ledger.received_ranges(), (std::vector<HeldRange>{{SliceKind::kKv, 0, 8}}));
}

// Chunks of 4 up to 14 with a window of 3: a token at the last border, 12, sees 10 and 11, so two chunks may be
// dropped.
TEST(SliceLedger, DoesNotWaitForWhatMayBeDropped) {
  SliceLedger ledger(flow_of(open_of(kDisaggregated, 14, 4), widths(8, 3)));
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    ledger.received(kv(layer, 8, 4));
    EXPECT_EQ(ledger.state(kv(layer, 0, 4)), State::kDropped);
    EXPECT_EQ(ledger.state(kv(layer, 4, 4)), State::kDropped);
    EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, layer), 12u);
    ledger.received(kv(layer, 12, 2));
    EXPECT_EQ(ledger.received_up_to(SliceKind::kKv, layer), 14u);
  }
  EXPECT_FALSE(ledger.prefill_received());
  ledger.received({SliceKind::kLogits, kLayers, 13, 1});
  EXPECT_TRUE(ledger.prefill_received());
  EXPECT_FALSE(ledger.prefill_held());
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    ledger.held(kv(layer, 8, 4));
    ledger.held(kv(layer, 12, 2));
  }
  ledger.held({SliceKind::kLogits, kLayers, 13, 1});
  EXPECT_TRUE(ledger.prefill_held());
  EXPECT_EQ(ledger.held_up_to(SliceKind::kKv, 0), 14u);
}

TEST(SliceLedger, SalvagesOnlyWhatATokenThereSees) {
  SliceLedger ledger(flow_of(open_of(kDisaggregated, 16, 4), widths(8, 5)));
  const auto hold = [&](std::uint32_t first, std::uint32_t layers) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      ledger.received(kv(layer, first, 4));
      ledger.held(kv(layer, first, 4));
    }
  };
  EXPECT_EQ(ledger.salvage_position(), 0u);
  hold(0, kLayers);
  EXPECT_EQ(ledger.salvage_position(), 4u);
  hold(8, kLayers - 1);
  EXPECT_EQ(ledger.salvage_position(), 4u) << "from 12 on 8 to 11 are seen, and one layer lacks them";
  hold(8, kLayers);
  EXPECT_EQ(ledger.salvage_position(), 12u) << "4 to 7 were dropped, and a token at 12 does not see them";

  SliceLedger wide(flow_of(open_of(kDisaggregated, 16, 4), widths(8, 6)));
  for (const std::uint32_t first : {0u, 8u}) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      wide.received(kv(layer, first, 4));
      wide.held(kv(layer, first, 4));
    }
  }
  EXPECT_EQ(wide.salvage_position(), 4u) << "7 was dropped, and a token at 12 sees it";
}

TEST(SliceLedger, TellsOldNewsFromNew) {
  SliceLedger ledger(flow_of(open_of(kJoint, 10, 4), widths()));
  EXPECT_FALSE(ledger.has_news());
  ledger.received(kv(0, 0, 4));
  ledger.received({SliceKind::kHidden, 2, 0, 4});
  EXPECT_TRUE(ledger.has_news());
  EXPECT_EQ(ledger.take_news(), (std::vector<HeldRange>{{SliceKind::kKv, 0, 4}, {SliceKind::kHidden, 2, 4}}));
  EXPECT_FALSE(ledger.has_news());
  EXPECT_TRUE(ledger.take_news().empty());
}

TEST(SliceLedger, RemembersGenerations) {
  SliceLedger ledger(flow_of(open_of(kPooled, 4, 4), widths()));
  const SliceKey prompt_logits{SliceKind::kLogits, kLayers, 3, 1};
  const SliceKey first_step{SliceKind::kLogits, kLayers, 4, 1};
  const SliceKey second_step{SliceKind::kLogits, kLayers, 5, 1};
  EXPECT_EQ(ledger.state(prompt_logits), State::kMissing);
  EXPECT_FALSE(ledger.may_come(second_step));
  EXPECT_FALSE(ledger.may_come(first_step)) << "the prompt's logits come first";
  ledger.received(prompt_logits);
  EXPECT_TRUE(ledger.may_come(first_step));
  ledger.received(first_step);
  EXPECT_TRUE(ledger.may_come(second_step));
  EXPECT_EQ(ledger.state(first_step), State::kReceived);
  ledger.begin_generation();
  EXPECT_EQ(ledger.state(prompt_logits), State::kReceivedBefore);
  EXPECT_EQ(ledger.state(first_step), State::kReceivedBefore);
  EXPECT_EQ(ledger.state(second_step), State::kMissing);
  ledger.received(second_step);
  EXPECT_EQ(ledger.state(second_step), State::kReceived);
  EXPECT_EQ(ledger.received_up_to(SliceKind::kLogits, kLayers), 6u);
}

TEST(SliceLedger, KnowsWhenThePrefillIsComplete) {
  const Flow flow = flow_of(open_of(kJoint, 10, 4), widths());
  SliceLedger ledger(flow);
  for (const SliceKey& key : prefill_keys(flow)) {
    EXPECT_FALSE(ledger.prefill_received());
    ledger.received(key);
    ledger.received(key);  // counts once
  }
  EXPECT_TRUE(ledger.prefill_received());
  for (const SliceKey& key : prefill_keys(flow)) {
    EXPECT_FALSE(ledger.prefill_held());
    ledger.held(key);
  }
  EXPECT_TRUE(ledger.prefill_held());
  // Where nothing flows, all is there.
  Open open = open_of("prefill=local:0-4;decode=local:0-2,A:2-4", 10, 4);
  EXPECT_TRUE(SliceLedger(flow_of(open, widths())).prefill_held());
}

TEST(SliceLedger, BeginsAfterThePrefix) {
  Open open = open_of(kDisaggregated, 10, 4);
  open.prefix_tokens = 4;
  const SliceLedger ledger(flow_of(open, widths()));
  EXPECT_EQ(ledger.held_up_to(SliceKind::kKv, 0), 4u);
  EXPECT_EQ(ledger.state(kv(0, 4, 4)), State::kMissing);
  EXPECT_TRUE(ledger.received_ranges().empty());
}

}  // namespace
}  // namespace baton::handoff
