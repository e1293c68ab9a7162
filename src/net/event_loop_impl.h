// The loop's asio context, for the sources of this room.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "net/event_loop.h"

namespace baton::net {

// What lives by itself until it ends, and whose end the loop's end is too.
class Resident {
 public:
  virtual ~Resident() = default;
  // Lets go of everything that may own it, and runs nothing.
  virtual void abandon() = 0;
};

// Whoever owns a socket or a timer shares this, so that these may be destroyed after the loop.
struct EventLoop::Impl : std::enable_shared_from_this<EventLoop::Impl> {
  // shutdown() destroys what is queued, which may own what shares this context.
  class Context : public boost::asio::io_context {
   public:
    Context() : io_context(1) {}
    using execution_context::shutdown;
  };

  Context context;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{context.get_executor()};
  std::atomic<std::thread::id> runner;
  std::atomic<bool> ended = false;
  std::mutex ending;  // between a post of another thread and the loop's end

  std::set<std::shared_ptr<Resident>> residents;

  void post(Task task);
};

using LoopHandle = std::shared_ptr<EventLoop::Impl>;

inline LoopHandle handle_of(EventLoop& loop) { return loop.impl().shared_from_this(); }

}  // namespace baton::net
