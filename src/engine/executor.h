// The one thread that owns an engine, and the queue before it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>

#include "base/result.h"
#include "engine/engine.h"

namespace baton::engine {

// Every job accepted is called exactly once, in order, on the executor's thread; after the executor has begun to end
// its token says so, and the job should only report that it was cancelled. A job must not throw.
using Job = std::move_only_function<void(Engine&, std::stop_token)>;

class Executor {
 public:
  Executor(std::unique_ptr<Engine> engine, std::size_t queue_limit);
  // Requests stop, lets every accepted job be called, and waits for the last.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Never waits: kNoCapacity when the queue is full, kCancelled once it is ending. Any thread, a job's too.
  Result<void> submit(Job job);
  // Makes tokens of running and later jobs say stop; submit() refuses from now on. Any thread.
  void request_stop();

  // Jobs waiting, without the one running. Any thread.
  std::size_t queued() const;

  // For what the engine allows from any thread.
  Engine& engine() { return *engine_; }
  const Engine& engine() const { return *engine_; }

 private:
  void run(const std::stop_token& stop);

  std::unique_ptr<Engine> engine_;
  const std::size_t queue_limit_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Job> jobs_;
  bool ending_ = false;
  std::jthread thread_;  // last: it starts when all else is there
};

}  // namespace baton::engine
