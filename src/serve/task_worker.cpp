#include "serve/task_worker.h"

#include <format>

#include "base/thread.h"

namespace baton::serve {

TaskWorker::TaskWorker(Limits limits, std::function<TimePoint()> now)
    : limits_(limits), now_(std::move(now)), queue_(limits.tasks), thread_([this](const std::stop_token& stop) {
        name_this_thread("requests");
        run(stop);
      }) {}

TaskWorker::~TaskWorker() { close(); }

void TaskWorker::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

Result<void> TaskWorker::submit(const std::string& client, Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(ErrorCode::kUnavailable, "the server is shutting down");
    const std::size_t waiting = queue_.size();
    if (!queue_.push(client, {std::move(task), now_()})) {
      return fail(ErrorCode::kNoCapacity, std::format("{} requests wait to be read already: come back later", waiting));
    }
  }
  ready_.notify_one();
  return {};
}

void TaskWorker::run(const std::stop_token& stop) {
  while (true) {
    std::unique_lock lock(mutex_);
    if (!ready_.wait(lock, stop, [&] { return !queue_.empty(); }) || stop.stop_requested()) return;
    Waiting next = queue_.pop();
    lock.unlock();
    if (!next.task.wanted()) continue;
    next.task.run(now_() - next.since > limits_.waiting_time ? Turn::kTooLate : Turn::kInTime);
  }
}

}  // namespace baton::serve
