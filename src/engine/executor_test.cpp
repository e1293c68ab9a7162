#include "engine/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <vector>

#include "engine/test_model.h"

namespace baton::engine {
namespace {

std::unique_ptr<Engine> small_engine() {
  return test::make_engine(test::reference_model("golden/llama-dense"), test::small_options());
}

TEST(Executor, RunsJobsInOrderOnOneThread) {
  std::vector<int> order;
  std::vector<std::thread::id> threads;
  {
    Executor executor(small_engine(), 16);
    for (int job = 0; job < 10; ++job) {
      ASSERT_TRUE(executor.submit([&, job](Engine&, const std::stop_token&) {
        order.push_back(job);
        threads.push_back(std::this_thread::get_id());
      }));
    }
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(std::ranges::count(threads, threads.front()), 10);
  EXPECT_NE(threads.front(), std::this_thread::get_id());
}

TEST(Executor, RefusesJobsWhenItsQueueIsFull) {
  Executor executor(small_engine(), 2);
  std::promise<void> started;
  std::promise<void> release;
  ASSERT_TRUE(executor.submit([&](Engine&, const std::stop_token&) {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  ASSERT_TRUE(executor.submit([](Engine&, const std::stop_token&) {}));
  ASSERT_TRUE(executor.submit([](Engine&, const std::stop_token&) {}));
  const auto refused = executor.submit([](Engine&, const std::stop_token&) {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(executor.queued(), 2U);
  release.set_value();
}

TEST(Executor, CallsEveryAcceptedJobAndTellsItToStop) {
  int called = 0;
  int told = 0;
  {
    Executor executor(small_engine(), 8);
    std::promise<void> started;
    ASSERT_TRUE(executor.submit([&](Engine&, const std::stop_token& stop) {
      started.set_value();
      std::promise<void> stopped;
      const std::stop_callback on_stop(stop, [&] { stopped.set_value(); });
      stopped.get_future().wait();
      called += 1;
      told += stop.stop_requested() ? 1 : 0;
    }));
    started.get_future().wait();
    for (int job = 0; job < 3; ++job) {
      ASSERT_TRUE(executor.submit([&](Engine&, const std::stop_token& stop) {
        called += 1;
        told += stop.stop_requested() ? 1 : 0;
      }));
    }
    executor.request_stop();
    EXPECT_EQ(executor.submit([](Engine&, const std::stop_token&) {}).error().code, ErrorCode::kCancelled);
  }
  EXPECT_EQ(called, 4);
  EXPECT_EQ(told, 4);
}

TEST(Executor, RunsPassesWhileOtherThreadsReserveAndRead) {
  Executor executor(small_engine(), 64);
  Engine& engine = executor.engine();
  Sequence sequence = test::reserve(engine, 64);
  const auto tokens = test::some_tokens(engine, 64);
  std::vector<std::future<std::vector<float>>> results;
  for (std::uint32_t chunk = 0; chunk < 4; ++chunk) {
    auto result = std::make_shared<std::promise<std::vector<float>>>();
    results.push_back(result->get_future());
    ASSERT_TRUE(executor.submit([&, chunk, result](Engine& owned, const std::stop_token&) {
      result->set_value(test::run_span(owned, sequence, chunk * 16, std::span(tokens).subspan(chunk * 16, 16)));
    }));
  }
  for (int round = 0; round < 200; ++round) {
    const Sequence other = test::reserve(engine, 200);
    EXPECT_TRUE(engine.view(other, 0, 0, 10));
  }
  std::vector<float> all;
  for (auto& result : results) {
    const auto logits = result.get();
    all.insert(all.end(), logits.begin(), logits.end());
  }
  const auto alone = small_engine();
  Sequence again = test::reserve(*alone, 64);
  EXPECT_EQ(all, test::run_chunks(*alone, again, tokens, 16));
}

TEST(Executor, SharesTheThreadOfItsDeviceInTheOrderOfTheJobs) {
  std::vector<int> order;
  std::vector<std::thread::id> threads;
  const auto thread = std::make_shared<DeviceThread>();
  {
    Executor one(small_engine(), 16, thread);
    Executor other(small_engine(), 16, thread);
    for (int job = 0; job < 10; ++job) {
      ASSERT_TRUE((job % 2 == 0 ? one : other).submit([&, job](Engine&, const std::stop_token&) {
        order.push_back(job);
        threads.push_back(std::this_thread::get_id());
      }));
    }
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(std::ranges::count(threads, threads.front()), 10);
}

TEST(Executor, EndsWhileAnotherOfItsDeviceGoesOn) {
  const auto thread = std::make_shared<DeviceThread>();
  Executor stays(small_engine(), 4, thread);
  bool told = false;
  {
    Executor ends(small_engine(), 4, thread);
    ends.request_stop();
    EXPECT_EQ(ends.submit([](Engine&, const std::stop_token&) {}).error().code, ErrorCode::kCancelled);
  }
  std::promise<void> called;
  ASSERT_TRUE(stays.submit([&](Engine&, const std::stop_token& stop) {
    told = stop.stop_requested();
    called.set_value();
  }));
  called.get_future().wait();
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace baton::engine
