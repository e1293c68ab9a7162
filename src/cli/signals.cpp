#include "cli/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace baton::cli {

namespace {

constexpr int kInterruptedStatus = 130;

sigset_t watched_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  // Not a request of anybody's: how the destructor wakes the thread.
  sigaddset(&signals, SIGUSR2);
  return signals;
}

}  // namespace

void end_interrupted() { ::_exit(kInterruptedStatus); }

void keep_signals() {
  const sigset_t signals = watched_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

SignalWatch::SignalWatch(std::function<void()> on_signal) {
  const sigset_t signals = watched_signals();
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
  thread_ = std::jthread([on_signal = std::move(on_signal), signals](const std::stop_token& stop) {
    bool asked = false;
    while (true) {
      int signal = 0;
      if (sigwait(&signals, &signal) != 0 || stop.stop_requested()) return;
      if (signal == SIGUSR2) continue;
      if (asked) end_interrupted();
      asked = true;
      on_signal();
    }
  });
}

SignalWatch::~SignalWatch() {
  thread_.request_stop();
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace baton::cli
