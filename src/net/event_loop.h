// One thread that waits for sockets, timers and posted tasks, and runs them one after another.
#pragma once

#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/result.h"

namespace baton::net {

using Task = std::move_only_function<void()>;

// Everything else in this room belongs to the loop it was made with: call it from the loop's thread, or while the loop
// does not run. Callbacks run on that thread, and never from inside a call that their owner is making.
class EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  // Destroys tasks that have not run, without running them. Timers, transports and connections may outlive the loop,
  // but then only to be destroyed.
  ~EventLoop();

  // Runs on the calling thread until stop(). Tasks posted earlier are kept; it may run again after a stop.
  void run();

  // From any thread. The loop ends after the task that is running now.
  void stop();

  // From any thread. Tasks run in the order in which they were posted.
  void post(Task task);

  bool in_loop_thread() const;

  struct Impl;  // for this room only, see event_loop_impl.h
  Impl& impl() { return *impl_; }

 private:
  explicit EventLoop(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Runs a task once, at a point in time. Accurate to well under a millisecond where the machine is not overloaded.
// After cancel(), a new start or destruction the earlier task never runs, even if its time had come.
class Timer {
 public:
  explicit Timer(EventLoop& loop);
  explicit Timer(const std::shared_ptr<EventLoop::Impl>& loop);
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;
  ~Timer();

  // May be called again, also from inside the task; the last call counts.
  void start(TimePoint when, Task task);
  void start(Duration delay, Task task) { start(now() + delay, std::move(task)); }
  void cancel();
  bool armed() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Lets a write to a closed socket or pipe fail with an error instead of ending the process. Call it once in main().
void ignore_sigpipe();

}  // namespace baton::net
