// How long a model stays loaded that nobody uses.
#pragma once

#include <chrono>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace baton::node {

// As Ollama keeps its models.
inline constexpr Duration kDefaultKeepAlive = std::chrono::minutes(5);
inline constexpr Duration kForever = Duration::max();

// Seconds; negative ones are kForever. kInvalidArgument for what is no number.
Result<Duration> keep_alive_of(double seconds);
// "90", "90s", "5m", "1h30m", "1.5h" (as Go writes durations, units ms, s, m and h); what begins with "-" is kForever.
Result<Duration> parse_keep_alive(std::string_view text);

}  // namespace baton::node
