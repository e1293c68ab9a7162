#include "serve/model_pulls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <semaphore>
#include <vector>

namespace baton::serve {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

// A pull that waits until it is let go on, or stopped.
class Pulls : public testing::Test {
 protected:
  Result<void> pull(const std::string& name, const store::OnProgress& on_progress, const std::stop_token& stop) {
    begun_.fetch_add(1);
    on_progress({.phase = store::PullPhase::kDownloading, .from = name, .bytes_done = 5});
    while (!may_end_.try_acquire_for(std::chrono::milliseconds(1))) {
      if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "stopped");
    }
    return {};
  }

  // What somebody hears who watches.
  struct Heard {
    std::atomic<int> progress = 0;
    std::promise<Result<void>> end;
    std::future<Result<void>> ended = end.get_future();
  };
  Result<ModelPulls::WatcherId> watch(const std::string& name, Heard& heard) {
    return pulls_.watch(name, {.on_progress = [&](const store::PullProgress&) { ++heard.progress; },
                               .on_end = [&](const Result<void>& end) { heard.end.set_value(end); }});
  }
  static Result<void> end_of(Heard& heard) {
    if (heard.ended.wait_for(kPatience) != std::future_status::ready) return fail(ErrorCode::kTimeout, "no end");
    return heard.ended.get();
  }
  static bool until(const std::function<bool()>& condition) {
    for (const auto end = std::chrono::steady_clock::now() + kPatience; !condition();) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::atomic<int> begun_ = 0;
  std::counting_semaphore<> may_end_{0};
  ModelPulls pulls_{[this](const auto& name, const auto& tell, const auto& stop) { return pull(name, tell, stop); }, 2};
};

TEST_F(Pulls, ThatTwoClientsAskForAreOne) {
  Heard first;
  Heard second;
  ASSERT_TRUE(watch("a", first));
  ASSERT_TRUE(until([&] { return first.progress > 0; }));
  ASSERT_TRUE(watch("a", second));
  EXPECT_GT(second.progress, 0);  // how far it is already
  may_end_.release();
  EXPECT_TRUE(end_of(first));
  EXPECT_TRUE(end_of(second));
  EXPECT_EQ(begun_, 1);
}

TEST_F(Pulls, AreBounded) {
  Heard first;
  Heard second;
  Heard third;
  ASSERT_TRUE(watch("a", first));
  ASSERT_TRUE(watch("b", second));
  EXPECT_EQ(watch("c", third).error().code, ErrorCode::kNoCapacity);
  may_end_.release(2);
  EXPECT_TRUE(end_of(first));
  EXPECT_TRUE(end_of(second));
  ASSERT_TRUE(until([&] { return watch("c", third).has_value(); }));
  may_end_.release();
  EXPECT_TRUE(end_of(third));
}

TEST_F(Pulls, StopWhenNobodyWatchesAnyMore) {
  Heard first;
  Heard second;
  const auto id = watch("a", first).value();
  const auto other = watch("a", second).value();
  pulls_.leave(id);
  pulls_.leave(other);
  // Who comes now has it begun again, once the one before has stopped.
  Heard third;
  ASSERT_TRUE(watch("a", third));
  ASSERT_TRUE(until([&] { return begun_ == 2; }));
  may_end_.release();
  EXPECT_TRUE(end_of(third));
  EXPECT_NE(first.ended.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_NE(second.ended.wait_for(std::chrono::seconds(0)), std::future_status::ready);
}

TEST_F(Pulls, GoOnWhileSomebodyWatches) {
  Heard first;
  Heard second;
  const auto id = watch("a", first).value();
  ASSERT_TRUE(watch("a", second));
  pulls_.leave(id);
  may_end_.release();
  EXPECT_TRUE(end_of(second));
  EXPECT_EQ(begun_, 1);
}

TEST_F(Pulls, EndWithTheirKeeper) {
  Heard heard;
  ASSERT_TRUE(watch("a", heard));
  pulls_.close();
  EXPECT_EQ(watch("b", heard).error().code, ErrorCode::kCancelled);
  EXPECT_NE(heard.ended.wait_for(std::chrono::seconds(0)), std::future_status::ready);
}

}  // namespace
}  // namespace baton::serve
