#include "engine/executor.h"

#include <format>
#include <utility>

#include "base/thread.h"

namespace baton::engine {

Executor::Executor(std::unique_ptr<Engine> engine, std::size_t queue_limit)
    : engine_(std::move(engine)),
      queue_limit_(queue_limit),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

Executor::~Executor() { request_stop(); }

Result<void> Executor::submit(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return fail(ErrorCode::kCancelled, "the engine is shutting down");
    if (jobs_.size() >= queue_limit_) {
      return fail(ErrorCode::kNoCapacity, std::format("{} jobs are waiting for the engine already", jobs_.size()));
    }
    jobs_.push_back(std::move(job));
  }
  ready_.notify_one();
  return {};
}

void Executor::request_stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  thread_.request_stop();
  ready_.notify_all();
}

std::size_t Executor::queued() const {
  const std::lock_guard lock(mutex_);
  return jobs_.size();
}

void Executor::run(const std::stop_token& stop) {
  name_this_thread("executor");
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job(*engine_, stop);
  }
}

}  // namespace baton::engine
