#include "base/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace baton {
namespace {

class AvailableMemory : public testing::Test {
 protected:
  AvailableMemory() : root_(std::filesystem::temp_directory_path() / ("baton-memory-" + std::to_string(getpid()))) {}
  ~AvailableMemory() override { std::filesystem::remove_all(root_); }

  void write(const std::filesystem::path& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  const std::filesystem::path root_;
};

TEST_F(AvailableMemory, IsUnknownWhereNothingSaysIt) { EXPECT_EQ(available_memory_bytes(root_), std::nullopt); }

TEST_F(AvailableMemory, IsWhatTheSystemSaysWhereNoGroupLimitsIt) {
  write("proc/meminfo", "MemTotal:       24000 kB\nMemFree:        100 kB\nMemAvailable:   2000 kB\n");
  write("proc/self/cgroup", "0::/work\n");
  write("sys/fs/cgroup/work/memory.max", "max\n");
  write("sys/fs/cgroup/work/memory.current", "12345\n");
  EXPECT_EQ(available_memory_bytes(root_), 2000U * 1024);
}

TEST_F(AvailableMemory, ObeysTheTightestGroupAboveTheProcess) {
  write("proc/meminfo", "MemAvailable:   2000 kB\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/memory.max", "900000\n");
  write("sys/fs/cgroup/outer/memory.current", "800000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 100000\ninactive_file 50000\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "700000\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "100000\n");
  EXPECT_EQ(available_memory_bytes(root_), 150000U);
}

TEST_F(AvailableMemory, ReadsGroupsOfTheFirstVersionWhosePathIsTheHosts) {
  write("proc/meminfo", "MemAvailable:   2000 kB\n");
  write("proc/self/cgroup", "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "300000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "400000\n");
  write("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 200000\n");
  EXPECT_EQ(available_memory_bytes(root_), 100000U);
}

#ifdef __linux__
TEST(AvailableMemoryOfThisMachine, IsSomething) { EXPECT_GT(available_memory_bytes().value_or(0), 1U << 20U); }
#endif

}  // namespace
}  // namespace baton
