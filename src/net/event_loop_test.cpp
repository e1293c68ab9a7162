#include "net/event_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "net/event_loop_impl.h"
#include "net/test_support.h"

namespace baton::net {
namespace {

using std::chrono::milliseconds;

TEST(EventLoop, RunsPostedTasksInOrder) {
  const auto loop = must(EventLoop::create());
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    loop->post([&order, i] { order.push_back(i); });
  }
  loop->post([&] { loop->stop(); });
  loop->run();
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(EventLoop, TakesTasksFromManyThreadsAndRunsThemOnItsOwn) {
  const auto loop = must(EventLoop::create());
  constexpr int kThreads = 4;
  constexpr int kTasks = 1000;
  int count = 0;
  bool own_thread = true;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        EXPECT_FALSE(loop->in_loop_thread());
        for (int i = 0; i < kTasks; ++i) {
          loop->post([&] {
            own_thread = own_thread && loop->in_loop_thread();
            if (++count == kThreads * kTasks) loop->stop();
          });
        }
      });
    }
    loop->run();
  }
  EXPECT_EQ(count, kThreads * kTasks);
  EXPECT_TRUE(own_thread);
  EXPECT_FALSE(loop->in_loop_thread());
}

TEST(EventLoop, MayEndWhileAnotherThreadPosts) {
  // Under the thread sanitizer, or with a crash, it shows where a task comes in beside the end.
  for (int round = 0; round < 200; ++round) {
    auto loop = must(EventLoop::create());
    const auto task = std::make_shared<int>();
    std::atomic<bool> posts = false;
    std::jthread poster([&, handle = handle_of(*loop)](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        handle->post([task] {});
        posts = true;
      }
    });
    while (!posts) std::this_thread::yield();
    loop.reset();
    poster.request_stop();
    poster.join();
    EXPECT_EQ(task.use_count(), 1) << "no task waits for a loop that has ended";
  }
}

TEST(EventLoop, RunsAgainAfterAStop) {
  const auto loop = must(EventLoop::create());
  int runs = 0;
  for (int i = 0; i < 3; ++i) {
    loop->post([&] {
      ++runs;
      loop->stop();
    });
    loop->run();
  }
  EXPECT_EQ(runs, 3);
}

TEST(EventLoop, DestroysTasksItNeverRan) {
  auto loop = must(EventLoop::create());
  const auto owned = std::make_shared<int>(1);
  Timer timer(*loop);
  loop->post([owned] { FAIL(); });
  timer.start(milliseconds(0), [copy = owned] { FAIL() << *copy; });
  loop.reset();
  timer.cancel();
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(Timer, RunsTasksInTheOrderOfTheirTimesAndNotBefore) {
  const auto loop = must(EventLoop::create());
  Timer late(*loop);
  Timer early(*loop);
  std::vector<int> order;
  const TimePoint begin = now();
  late.start(begin + milliseconds(20), [&] {
    order.push_back(2);
    EXPECT_GE(now(), begin + milliseconds(20));
    loop->stop();
  });
  early.start(begin + milliseconds(5), [&] {
    order.push_back(1);
    EXPECT_GE(now(), begin + milliseconds(5));
  });
  EXPECT_TRUE(early.armed());
  loop->run();
  EXPECT_EQ(order, (std::vector{1, 2}));
  EXPECT_FALSE(early.armed());
}

TEST(Timer, NeverRunsACancelledTaskEvenWhenItsTimeHasCome) {
  const auto loop = must(EventLoop::create());
  const TimePoint past = now();
  auto destroyed = std::make_optional<Timer>(*loop);
  Timer cancelled(*loop);
  Timer restarted(*loop);
  int runs = 0;
  // All four are due in the same turn of the loop, and the first ends the others.
  Timer first(*loop);
  first.start(past, [&] {
    destroyed.reset();
    cancelled.cancel();
    restarted.start(past, [&] {
      ++runs;
      loop->stop();
    });
  });
  destroyed->start(past, [] { FAIL() << "destroyed"; });
  cancelled.start(past, [] { FAIL() << "cancelled"; });
  restarted.start(past, [] { FAIL() << "replaced"; });
  loop->run();
  EXPECT_EQ(runs, 1);
}

TEST(Timer, MayBeStartedAndDestroyedInItsOwnTask) {
  const auto loop = must(EventLoop::create());
  auto timer = std::make_unique<Timer>(*loop);
  int runs = 0;
  std::function<void()> step = [&] {
    if (++runs < 3) {
      timer->start(Duration(0), [&] { step(); });
    } else {
      timer.reset();
      loop->stop();
    }
  };
  timer->start(Duration(0), [&] { step(); });
  loop->run();
  EXPECT_EQ(runs, 3);
}

}  // namespace
}  // namespace baton::net
