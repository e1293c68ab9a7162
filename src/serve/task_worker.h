// A thread for what would hold up the one that serves all connections: reading large bodies, rendering templates,
// tokenising. Clients take turns, and the tasks of each keep their order.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/result.h"
#include "serve/fair_queue.h"

namespace baton::serve {

class TaskWorker {
 public:
  struct Limits {
    std::size_t tasks = 256;  // that wait
    Duration waiting_time = std::chrono::seconds(30);
  };
  enum class Turn { kInTime, kTooLate };  // too late: it has waited for longer than it may, and should only say so
  struct Task {
    // On the worker's thread, before the task's turn: whether anybody still wants it. Else run() is never called.
    std::function<bool()> wanted;
    std::move_only_function<void(Turn)> run;  // must not throw
  };

  // `now` is asked on any thread.
  explicit TaskWorker(Limits limits, std::function<TimePoint()> now = baton::now);
  // Closes it.
  ~TaskWorker();
  TaskWorker(const TaskWorker&) = delete;
  TaskWorker& operator=(const TaskWorker&) = delete;

  // Any thread; never waits. kNoCapacity where too much waits already, kCancelled once it is closed.
  Result<void> submit(const std::string& client, Task task);
  // Waits for the task that runs; those that wait are dropped, and no task runs any more.
  void close();

 private:
  struct Waiting {
    Task task;
    TimePoint since;
  };
  void run(const std::stop_token& stop);

  const Limits limits_;
  const std::function<TimePoint()> now_;
  mutable std::mutex mutex_;
  std::condition_variable_any ready_;
  FairQueue<Waiting> queue_;
  bool closed_ = false;
  std::jthread thread_;  // last: it starts when all else is there
};

}  // namespace baton::serve
