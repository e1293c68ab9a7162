#include "cli/plan_machines.h"

#include <gtest/gtest.h>

namespace baton::cli {
namespace {

TEST(PlanMachines, NumbersMachinesOfOneNameAndKeepsADevicesNode) {
  const auto cluster = make_cluster({.devices = {"spark", "rtx4090+cpu-16", "spark"}}, "");
  ASSERT_TRUE(cluster) << cluster.error().to_string();
  ASSERT_EQ(cluster->nodes.size(), 3u);
  EXPECT_EQ(cluster->nodes[0].name, "spark");
  EXPECT_EQ(cluster->nodes[2].name, "spark2");
  ASSERT_EQ(cluster->devices.size(), 4u);
  EXPECT_EQ(cluster->devices[1].node, cluster->devices[2].node);
  EXPECT_EQ(cluster->devices[3].node, 2u);
  EXPECT_EQ(cluster->devices[3].name, "spark2");
}

TEST(PlanMachines, MeasuresNoMachineWithoutAModel) {
  const auto cluster = make_cluster({.devices = {"spark", "this"}}, "");
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::cli
