#include "engine/executor.h"

#include <format>
#include <utility>

namespace baton::engine {

Executor::Executor(std::unique_ptr<Engine> engine, std::size_t queue_limit, std::shared_ptr<DeviceThread> thread)
    : engine_(std::move(engine)),
      queue_limit_(queue_limit),
      thread_(thread ? std::move(thread) : std::make_shared<DeviceThread>()) {}

Executor::~Executor() {
  request_stop();
  std::unique_lock lock(mutex_);
  all_called_.wait(lock, [this] { return not_over_ == 0; });
}

Result<void> Executor::submit(Job job) {
  const std::lock_guard lock(mutex_);
  if (ending_) return fail(ErrorCode::kCancelled, "the engine is shutting down");
  if (waiting_ >= queue_limit_) {
    return fail(ErrorCode::kNoCapacity, std::format("{} jobs are waiting for the engine already", waiting_));
  }
  ++waiting_;
  ++not_over_;
  thread_->submit([this, job = std::move(job)]() mutable {
    {
      const std::lock_guard running(mutex_);
      --waiting_;
    }
    {
      // Gone with all that it holds before the executor may be.
      Job called = std::move(job);
      called(*engine_, stop_.get_token());
    }
    const std::lock_guard over(mutex_);
    if (--not_over_ == 0) all_called_.notify_all();
  });
  return {};
}

void Executor::request_stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  stop_.request_stop();
}

std::size_t Executor::queued() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

}  // namespace baton::engine
