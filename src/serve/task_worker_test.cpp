#include "serve/task_worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <utility>
#include <vector>

namespace baton::serve {
namespace {

// A worker that is busy with a first task until it is let go, so that what comes next waits.
class Busy {
 public:
  explicit Busy(TaskWorker::Limits limits = {}) : worker_(limits, [this] { return TimePoint(Duration(time_ns_)); }) {
    std::promise<void> begun;
    TaskWorker::Task first{.wanted = [] { return true; },
                           .run =
                               [&](TaskWorker::Turn) {
                                 begun.set_value();
                                 may_go_.get_future().wait();
                               }};
    EXPECT_TRUE(worker_.submit("first", std::move(first)));
    begun.get_future().wait();
  }
  ~Busy() { let_go(); }

  Result<void> submit(const std::string& client, const std::string& name, bool wanted = true) {
    return worker_.submit(client, {.wanted = [wanted] { return wanted; },
                                   .run =
                                       [this, name](TaskWorker::Turn turn) {
                                         const std::lock_guard lock(mutex_);
                                         done_.push_back(turn == TaskWorker::Turn::kInTime ? name : name + " late");
                                         changed_.notify_one();
                                       }});
  }
  void pass_time(Duration time) { time_ns_ += time.count(); }
  // What has been done, in order, once that many tasks are.
  std::vector<std::string> finish(std::size_t count) {
    let_go();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(30), [&] { return done_.size() >= count; });
    return done_;
  }

 private:
  void let_go() {
    if (!std::exchange(gone_on_, true)) may_go_.set_value();
  }

  std::atomic<std::int64_t> time_ns_{1};
  bool gone_on_ = false;
  std::promise<void> may_go_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> done_;
  TaskWorker worker_;
};

TEST(TaskWorker, LetsClientsTakeTurnsInTheirOrder) {
  Busy busy;
  for (const char* name : {"a1", "a2", "a3"}) ASSERT_TRUE(busy.submit("a", name));
  ASSERT_TRUE(busy.submit("b", "b1"));
  EXPECT_EQ(busy.finish(4), (std::vector<std::string>{"a1", "b1", "a2", "a3"}));
}

TEST(TaskWorker, DoesNotDoWhatNobodyWants) {
  Busy busy;
  ASSERT_TRUE(busy.submit("a", "unwanted", false));
  ASSERT_TRUE(busy.submit("b", "wanted"));
  EXPECT_EQ(busy.finish(1), (std::vector<std::string>{"wanted"}));
}

TEST(TaskWorker, RefusesWhatIsTooMuch) {
  Busy busy({.tasks = 2, .waiting_time = std::chrono::seconds(1)});
  EXPECT_TRUE(busy.submit("a", "one"));
  EXPECT_TRUE(busy.submit("b", "two"));
  EXPECT_EQ(busy.submit("c", "three").error().code, ErrorCode::kNoCapacity);
}

TEST(TaskWorker, SaysWhatHasWaitedForTooLong) {
  Busy busy({.tasks = 9, .waiting_time = std::chrono::seconds(1)});
  ASSERT_TRUE(busy.submit("a", "patient"));
  busy.pass_time(std::chrono::seconds(2));
  ASSERT_TRUE(busy.submit("b", "new"));
  EXPECT_EQ(busy.finish(2), (std::vector<std::string>{"patient late", "new"}));
}

}  // namespace
}  // namespace baton::serve
