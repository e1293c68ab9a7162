#include "engine/emulation.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <format>
#include <thread>

namespace baton::engine {

namespace {

// How early to wake up: waking takes tens of microseconds, and only spinning ends on time.
constexpr Duration kSpin = std::chrono::microseconds(50);

// A real device's slowest layer takes seconds; a longer one is a rate that makes no sense, and must not overflow.
constexpr double kLongestStepSeconds = 1e6;

void sleep_to(TimePoint deadline) {
#ifdef __linux__
  const auto since_boot = (deadline - kSpin).time_since_epoch();
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
  timespec at{};
  at.tv_sec = whole.count();
  at.tv_nsec = (since_boot - whole).count();
  while (now() < deadline - kSpin && ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {}
#else
  std::this_thread::sleep_until(deadline - kSpin);
#endif
  while (now() < deadline) {}
}

}  // namespace

EmulationTime real_emulation_time() {
  return {.now = [] { return baton::now(); }, .sleep_until = sleep_to};
}

double EmulationReport::overrun_fraction() const {
  if (emulated.count() <= 0) return overrun.count() > 0 ? 1.0 : 0.0;
  return seconds(overrun) / seconds(emulated);
}

Emulation::Emulation(EmulatedDevice device, EmulationTime time) : device_(device), time_(std::move(time)) {}

Result<Emulation> Emulation::create(EmulatedDevice device, EmulationTime time) {
  for (const double rate : {device.teraflops, device.gigabytes_per_second}) {
    if (!std::isfinite(rate) || rate <= 0) {
      return fail(ErrorCode::kInvalidArgument, std::format("an emulated device cannot have a rate of {}", rate));
    }
  }
  return Emulation(device, std::move(time));
}

Duration Emulation::duration_of(const model::Cost& cost) const {
  const double step =
      std::max(cost.flops / (device_.teraflops * 1e12), cost.bytes / (device_.gigabytes_per_second * 1e9));
  return from_seconds(std::min(step, kLongestStepSeconds));
}

void Emulation::begin_pass() {
  clock_ = std::max(clock_, time_.now());
  lateness_ = {};
}

void Emulation::finish(const model::Cost& cost) {
  const Duration step = duration_of(cost);
  clock_ += step;
  report_.emulated += step;
  const TimePoint time = time_.now();
  const Duration lateness = std::max(Duration{}, time - clock_);
  // What later layers of the pass make up was not lost: the sum is how late each pass ended.
  report_.overrun += lateness - lateness_;
  lateness_ = lateness;
  if (time < clock_) time_.sleep_until(clock_);
}

}  // namespace baton::engine
