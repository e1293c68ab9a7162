// A slower device made out of this one: a virtual clock of what it would have finished by now.
// Each step advances the clock by max(FLOPs / rate, bytes / bandwidth) and the caller sleeps to that absolute point, so
// that oversleeping is repaid by the next step. Everything it paces must be labelled "emulated".
#pragma once

#include <functional>

#include "base/clock.h"
#include "base/result.h"
#include "model/cost.h"

namespace baton::engine {

struct EmulatedDevice {
  double teraflops = 0;             // FLOPs per second / 1e12
  double gigabytes_per_second = 0;  // bytes per second / 1e9
};

// Where an emulated device gets its time, so that tests need not wait.
struct EmulationTime {
  std::function<TimePoint()> now;
  std::function<void(TimePoint)> sleep_until;
};

// The machine's clock: sleeps to an absolute deadline, the last 50 us awake.
EmulationTime real_emulation_time();

// A phase of which more than this share overran says nothing about the emulated device.
inline constexpr double kMaxOverrunFraction = 0.01;

struct EmulationReport {
  Duration emulated{};  // what the steps of the phase should take together
  Duration overrun{};   // by how much passes ended after their deadlines, summed
  double overrun_fraction() const;
  bool valid() const { return overrun_fraction() <= kMaxOverrunFraction; }
};

// Not thread-safe: it belongs to the executor thread.
class Emulation {
 public:
  // Both rates must be finite and positive.
  static Result<Emulation> create(EmulatedDevice device, EmulationTime time = real_emulation_time());

  // A forward pass begins: the clock goes on from where it was, or from now after idle time.
  void begin_pass();
  // The work of this cost is really done: waits until the emulated device would have done it too.
  void finish(const model::Cost& cost);

  Duration duration_of(const model::Cost& cost) const;
  EmulationReport report() const { return report_; }
  void reset_report() { report_ = {}; }

 private:
  Emulation(EmulatedDevice device, EmulationTime time);

  EmulatedDevice device_;
  EmulationTime time_;
  TimePoint clock_{};
  Duration lateness_{};  // of the last step, behind the clock
  EmulationReport report_;
};

}  // namespace baton::engine
