#include "node/pass_pace.h"

#include <algorithm>
#include <chrono>

namespace baton::node {

namespace {

// One core of an old machine without vector instructions for the model's type, its memory shared with others.
constexpr double kSlowFlopsPerSecond = 10e9;
constexpr double kSlowBytesPerSecond = 2e9;
// A piece that was slow for once, such as on a machine that was swapping, counts half of it after 700 more: some tens
// of chunks.
constexpr double kRemembered = 0.999;
// By how much one piece may raise it: a stop of a minute, for once, tells nothing of the next piece.
constexpr double kMostGrowth = 4;

double slow_machine_s(const model::Cost& cost) {
  return cost.flops / kSlowFlopsPerSecond + cost.bytes / kSlowBytesPerSecond;
}

}  // namespace

Duration PassPace::expected(const model::Cost& cost, Weights weights) const {
  double seconds = slow_machine_s(cost) * (slowness_ == 0 ? 1 : slowness_);
  // Four times this is waited for (handoff::Receiver): so a disk of 500 MB/s is no stall.
  if (weights == Weights::kMayBeCold) seconds = std::max(seconds, cost.bytes / kSlowBytesPerSecond);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

void PassPace::note(const model::Cost& cost, Duration took) {
  const double slow_s = slow_machine_s(cost);
  if (slow_s <= 0) return;
  const double now = std::chrono::duration<double>(took).count() / slow_s;
  slowness_ = slowness_ == 0 ? now : std::clamp(now, slowness_ * kRemembered, slowness_ * kMostGrowth);
}

}  // namespace baton::node
