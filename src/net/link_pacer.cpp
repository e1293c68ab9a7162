#include "net/link_pacer.h"

#include <algorithm>

namespace baton::net {

namespace {

// A turn is short beside what people measure, and long beside what a timer costs.
constexpr double kTurnSeconds = 1e-3;
constexpr double kMinQuantumBytes = 2 * 1024;
constexpr double kMaxQuantumBytes = 64 * 1024;

}  // namespace

LinkPacer::LinkPacer(const std::shared_ptr<EventLoop::Impl>& loop, double bits_per_second)
    : schedule_(bits_per_second),
      quantum_bytes_(
          static_cast<std::size_t>(std::clamp(bits_per_second / 8 * kTurnSeconds, kMinQuantumBytes, kMaxQuantumBytes))),
      timer_(loop) {}

std::size_t LinkPacer::allowance() {
  const TimePoint time = now();
  if (!schedule_.free(time)) return 0;
  if (!serving_) {
    if (!waiting_.empty()) return 0;
    schedule_.begin(time);
  }
  return quantum_bytes_;
}

void LinkPacer::wait(Task turn) {
  waiting_.push_back(std::move(turn));
  if (!serving_) arm();
}

void LinkPacer::arm() {
  if (timer_.armed()) return;
  timer_.start(schedule_.free_at(), [this] { serve(); });
}

void LinkPacer::serve() {
  // While someone waited the link was busy: however late this wake-up is, the schedule goes on from where it was.
  serving_ = true;
  while (!waiting_.empty() && schedule_.free(now())) {
    Task turn = std::move(waiting_.front());
    waiting_.pop_front();
    turn();
  }
  serving_ = false;
  if (!waiting_.empty()) arm();
}

}  // namespace baton::net
