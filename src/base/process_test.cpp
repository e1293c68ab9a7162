#include "base/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <format>
#include <string>

namespace baton {
namespace {

TEST(ChildProcess, GivesItsLinesAndItsStatus) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "echo one; echo two; exit 3"});
  ASSERT_TRUE(child);
  const TimePoint deadline = now() + std::chrono::seconds(10);
  EXPECT_EQ(child->read_line(deadline).value(), "one");
  const auto finished = child->finish(deadline);
  ASSERT_TRUE(finished);
  EXPECT_EQ(finished->output, "two\n");
  EXPECT_EQ(finished->status, 3);
}

TEST(ChildProcess, AnswersWithinItsDeadline) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100"});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->read_line(now() + std::chrono::milliseconds(20)).error().code, ErrorCode::kTimeout);
}

TEST(ChildProcess, GivesUpOnOneThatClosesItsOutputAndRunsOn) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100 >&-"});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->finish(now() + std::chrono::milliseconds(100)).error().code, ErrorCode::kTimeout);
}

TEST(ChildProcess, ReadsWhatItIsWritten) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec cat"}, ChildInput::kPiped);
  ASSERT_TRUE(child);
  const TimePoint deadline = now() + std::chrono::seconds(10);
  ASSERT_TRUE(child->write("one\ntwo", deadline));
  EXPECT_EQ(child->read_line(deadline).value(), "one");
  EXPECT_EQ(child->read(3, deadline).value(), "two");
  EXPECT_EQ(child->kill(deadline).value(), 128 + 9);
}

TEST(ChildProcess, WaitsForOneThatDoesNotReadNoLongerThanItsDeadline) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100"}, ChildInput::kPiped);
  ASSERT_TRUE(child);
  const std::string much(1 << 20, 'x');
  EXPECT_EQ(child->write(much, now() + std::chrono::milliseconds(20)).error().code, ErrorCode::kTimeout);
}

TEST(ChildProcess, SaysThatItEndedBeforeItReadItsInput) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exit 5"}, ChildInput::kPiped);
  ASSERT_TRUE(child);
  const TimePoint deadline = now() + std::chrono::seconds(10);
  const std::string much(1 << 20, 'x');
  EXPECT_EQ(child->write(much, deadline).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(child->kill(deadline).value(), 5);
}

TEST(ChildProcess, InheritsNoFileButTheStandardStreams) {
  const int file = ::dup(STDERR_FILENO);
  auto child =
      ChildProcess::start({"/bin/sh", "-c", std::format("true 2>/dev/null >&{} && echo open || echo closed", file)});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->read_line(now() + std::chrono::seconds(10)).value(), "closed");
  ::close(file);
}

TEST(ChildProcess, EndsAllAndStartsNoMore) {
  const auto end_all = [] {
    auto one = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100"});
    auto other = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100"});
    ChildProcess::end_all();
    const TimePoint soon = now() + std::chrono::seconds(10);
    const bool killed = one->finish(soon)->status == 128 + 9 && other->finish(soon)->status == 128 + 9;
    const auto late = ChildProcess::start({"/bin/sh", "-c", "exit 0"});
    std::exit(killed && !late && late.error().code == ErrorCode::kCancelled ? 0 : 1);
  };
  // In a process of its own, as none can be started in this one afterwards.
  EXPECT_EXIT(end_all(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace baton
