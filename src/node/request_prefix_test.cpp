#include "node/request_prefix.h"

#include <gtest/gtest.h>

namespace baton::node {
namespace {

constexpr LayerRange kAllLayers{0, 6};

handoff::Open open_of(const std::string& plan) {
  handoff::Open open;
  open.plan = plan::parse_plan(plan, std::vector<plan::NodeRef>{{"A", "", "a"}}, kAllLayers.end).value();
  open.chunk_tokens = 64;
  return open;
}

TEST(RequestPrefix, WhoComputesAloneBeginsAnywhere) {
  const PrefixNeed need = prefix_need(open_of("prefill=local:0-6;decode=local:0-6"), 100, kAllLayers);
  EXPECT_EQ(need.grid, 1U);
  EXPECT_FALSE(need.exactly);
  EXPECT_EQ(need.tokens, 100U);
  EXPECT_EQ(need.layers, kAllLayers);
}

TEST(RequestPrefix, WhoMovesRowsBeginsOnTheGridOfChunks) {
  EXPECT_EQ(prefix_need(open_of("prefill=A:0-3,local:3-6;decode=local:0-6"), 100, kAllLayers).grid, 64U);
}

TEST(RequestPrefix, WhoWantsTheSameBitsBeginsOnTheGridOfChunks) {
  handoff::Open open = open_of("prefill=local:0-6;decode=local:0-6");
  open.determinism = handoff::Determinism::kDeterministic;
  const PrefixNeed need = prefix_need(open, 100, kAllLayers);
  EXPECT_TRUE(need.exactly);
  EXPECT_EQ(need.grid, 64U);
}

}  // namespace
}  // namespace baton::node
