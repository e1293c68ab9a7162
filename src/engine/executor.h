// The one thread that owns a device, and an engine's queue before it. Engines on one device share its thread: their
// jobs take turns in the order in which they came, and never compute at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>

#include "base/clock.h"
#include "base/job_thread.h"
#include "base/result.h"
#include "engine/engine.h"

namespace baton::engine {

// Every job accepted is called exactly once, in order, on the executor's thread; after the executor has begun to end
// its token says so, and the job should only report that it was cancelled. A job must not throw.
using Job = std::move_only_function<void(Engine&, std::stop_token)>;

// Shared by the executors of one device.
class DeviceThread {
 public:
  DeviceThread() : jobs_("executor") {}

  void submit(JobThread::Job job) { jobs_.submit(std::move(job)); }
  // When somebody's text was last gone on with on this device, whichever the model. Any thread.
  void note_step(TimePoint at) { last_step_ = at; }
  std::optional<TimePoint> last_step() const {
    const TimePoint at = last_step_;
    return at == TimePoint::min() ? std::nullopt : std::optional(at);
  }

 private:
  std::atomic<TimePoint> last_step_ = TimePoint::min();
  JobThread jobs_;  // last: its jobs may use the rest
};

class Executor {
 public:
  // Without a thread to share it starts one of its own.
  Executor(std::unique_ptr<Engine> engine, std::size_t queue_limit, std::shared_ptr<DeviceThread> thread = nullptr);
  // Requests stop, lets every accepted job be called, and waits for the last.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Never waits: kNoCapacity when the queue is full, kCancelled once it is ending. Any thread, a job's too.
  Result<void> submit(Job job);
  // Makes tokens of running and later jobs say stop; submit() refuses from now on. Any thread.
  void request_stop();

  DeviceThread& thread() { return *thread_; }

  // Jobs waiting, without the one running. Any thread.
  std::size_t queued() const;

  // For what the engine allows from any thread.
  Engine& engine() { return *engine_; }
  const Engine& engine() const { return *engine_; }

 private:
  std::unique_ptr<Engine> engine_;
  const std::size_t queue_limit_;
  mutable std::mutex mutex_;
  std::condition_variable all_called_;
  std::size_t waiting_ = 0;
  std::size_t not_over_ = 0;  // waiting or running
  bool ending_ = false;
  std::stop_source stop_;
  std::shared_ptr<DeviceThread> thread_;
};

}  // namespace baton::engine
