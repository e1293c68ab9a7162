#include "base/file_lock.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <optional>
#include <thread>

#include "base/temporary_folder.h"

namespace baton {
namespace {

TEST(FileLock, KeepsOthersOutUntilItGoes) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "lock";
  std::optional<FileLock> lock = FileLock::try_take(path, "taken").value();
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const auto second = FileLock::try_take(path, "somebody has it");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(second.error().message, "somebody has it");
  EXPECT_EQ(second.error().context, folder.path().string());
  const FileLock moved = *std::move(lock);
  lock.reset();
  EXPECT_FALSE(FileLock::try_take(path, "taken"));
}

TEST(FileLock, WaitsForItsTurn) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "lock";
  std::atomic<int> count = 0;
  const auto add = [&] {
    for (int i = 0; i < 1000; ++i) {
      const FileLock lock = FileLock::take(path).value();
      const int seen = count;
      std::this_thread::yield();
      count = seen + 1;
    }
  };
  std::thread other(add);
  add();
  other.join();
  EXPECT_EQ(count, 2000);
}

TEST(FileLock, WaitsNoLongerThanItMay) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "lock";
  const FileLock lock = FileLock::take(path).value();
  const TimePoint before = now();
  const auto second = FileLock::take(path, std::chrono::milliseconds(50));
  ASSERT_FALSE(second);
  EXPECT_GE(now() - before, std::chrono::milliseconds(50));
  EXPECT_EQ(second.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(second.error().context, path.string());
}

// Whoever has it may remove the file, or the folder with it.
TEST(FileLock, IsThatOfTheFileThatIsThere) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "lock";
  for (int round = 0; round < 50; ++round) {
    std::optional<FileLock> first = FileLock::take(path).value();
    std::atomic<bool> begun = false;
    std::thread waiting([&] {
      begun = true;
      begun.notify_one();
      const FileLock second = FileLock::take(path).value();
      EXPECT_FALSE(FileLock::try_take(path, "taken")) << round;
    });
    begun.wait(false);
    std::filesystem::remove(path);
    first.reset();
    waiting.join();
  }
}

TEST(FileLock, SaysWhereItCannotBe) {
  const auto lock = FileLock::take("/absent/folder/lock");
  ASSERT_FALSE(lock);
  EXPECT_NE(lock.error().to_string().find("/absent/folder/lock"), std::string::npos);
}

}  // namespace
}  // namespace baton
