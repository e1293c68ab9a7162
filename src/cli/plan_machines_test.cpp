#include "cli/plan_machines.h"

#include <gtest/gtest.h>

namespace baton::cli {
namespace {

using engine::DeviceInfo;
using engine::DeviceKind;

TEST(PlanMachines, TakesTheSystemsMemoryForTheProcessorsOnly) {
  const DeviceInfo processor{.name = "CPU", .description = {}, .kind = DeviceKind::kCpu, .memory_free_bytes = 8'000};
  EXPECT_DOUBLE_EQ(usable_memory_bytes(processor, 64'000), 0.9 * 64'000);
  EXPECT_DOUBLE_EQ(usable_memory_bytes(processor, std::nullopt), 0.9 * 8'000);
  for (const DeviceKind kind : {DeviceKind::kGpu, DeviceKind::kIntegratedGpu, DeviceKind::kAccelerator}) {
    const DeviceInfo card{.name = "GPU0", .description = {}, .kind = kind, .memory_free_bytes = 8'000};
    EXPECT_DOUBLE_EQ(usable_memory_bytes(card, 64'000), 0.9 * 8'000);
  }
}

}  // namespace
}  // namespace baton::cli
