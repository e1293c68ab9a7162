// Time as a value, so that whoever waits can be tested without waiting.
#pragma once

#include <chrono>
#include <cstdint>

namespace baton {

using Duration = std::chrono::nanoseconds;
// A point on this machine's monotonic clock. Two machines' points cannot be compared.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

inline TimePoint now() { return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now()); }

inline double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
inline Duration from_seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

}  // namespace baton
