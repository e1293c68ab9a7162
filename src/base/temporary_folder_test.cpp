#include "base/temporary_folder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <format>
#include <fstream>
#include <thread>
#include <vector>

#include "base/file.h"

namespace baton {
namespace {

TEST(TemporaryFolder, GoesAwayWithAllThatIsInIt) {
  std::filesystem::path path;
  {
    const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
    path = folder.path();
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0700));
    std::filesystem::create_directory(path / "inner");
    ASSERT_TRUE(write_file(path / "inner" / "file", as_byte_span("x")));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, GoesAwayWhileOtherThreadsWriteToIt) {
  constexpr int kWriters = 4;
  for (int round = 0; round < 5; ++round) {
    const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
    std::atomic<int> writing = 0;
    std::atomic<bool> over = false;
    std::vector<std::jthread> writers;
    for (int writer = 0; writer < kWriters; ++writer) {
      writers.emplace_back([&, writer] {
        for (int file = 0; !over; ++file) {
          std::ofstream out(folder.path() / std::format("{}-{}", writer, file));
          if (!out) return;
          if (file == 0) ++writing;
        }
      });
    }
    while (writing < kWriters) std::this_thread::yield();
    folder.remove();
    over = true;
    EXPECT_FALSE(std::filesystem::exists(folder.path()));
    EXPECT_FALSE(std::filesystem::exists(folder.path().string() + ".removed"));
  }
}

TEST(TemporaryFolder, IsNewEachTimeAndFollowsAMove) {
  TemporaryFolder one = TemporaryFolder::create("baton-test").value();
  const TemporaryFolder other = TemporaryFolder::create("baton-test").value();
  EXPECT_NE(one.path(), other.path());
  const auto path = one.path();
  {
    const TemporaryFolder moved = std::move(one);
    EXPECT_EQ(moved.path(), path);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace baton
