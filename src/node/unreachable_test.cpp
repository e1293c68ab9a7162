// What is said where one node of a plan cannot reach another.
#include <gtest/gtest.h>

#include "node/test_cluster.h"

namespace baton::node {
namespace {

using test::plan_text;
using Unreachable = test::Cluster;

TEST_F(Unreachable, ANodeThatReachesAnotherMachineSaysSo) {
  Node& local = add_node({"local"});
  add_node({"A"});
  add_node({"B"});
  // From now on this node is connected to A, and B is not.
  ASSERT_TRUE(*finish(local, request(plan_text("A:0-6", "local:0-6")))->report);
  // As where the address is right for this node alone, such as 127.0.0.1: B finds itself there.
  peers_[1].address = peers_[2].address;
  const auto done = finish(local, request(plan_text("A:0-3,B:3-6", "local:0-6")));
  // B had accepted, so that its failure is one to go on from.
  ASSERT_EQ(done->recoveries.size(), 1U);
  const std::string shown = done->recoveries.front().error.to_string();
  EXPECT_TRUE(shown.contains("B cannot reach A at " + peers_[1].address)) << shown;
  EXPECT_TRUE(shown.contains("another machine answered: its key is " + peers_[2].fingerprint)) << shown;
  EXPECT_FALSE(shown.contains("does not trust")) << shown;
}

}  // namespace
}  // namespace baton::node
