// Ctrl-C and termination as calls on a thread of their own, instead of the end of the process in the middle of
// anything.
#pragma once

#include <signal.h>

#include <functional>
#include <thread>

namespace baton::cli {

// As a second signal does: the process ends at once with status 130, and nothing is written or said any more.
[[noreturn]] void end_interrupted();

// From now on SIGINT and SIGTERM wait for a SignalWatch. Call it before any other thread is started.
void keep_signals();

// While one exists, SIGINT and SIGTERM call `on_signal`; a second one ends the process at once with status 130. After
// it they do what they did before. Make it before any other thread, so that all of them leave these signals alone.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void()> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  sigset_t before_{};  // blocked on the thread that made it
  std::jthread thread_;
};

}  // namespace baton::cli
