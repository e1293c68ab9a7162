// What this room takes from outside that a test wants to choose: the time, and what nobody can guess.
#pragma once

#include <functional>
#include <span>

#include "base/clock.h"
#include "base/random.h"

namespace baton::node {

// `now` is asked on the loop's and on the executor's thread. Timers run by the loop's own clock all the same: they say
// when to look, `now` says what time it is then.
struct Surroundings {
  std::function<TimePoint()> now = baton::now;
  std::function<void(std::span<std::byte>)> fill_random = baton::fill_random;
};

}  // namespace baton::node
