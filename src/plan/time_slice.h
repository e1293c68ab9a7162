// How a device's time is divided where answers are written on it while a prompt is read: after each batch of the
// answers' steps comes a piece of the prompt. The engine keeps to it, and the planner reckons with it.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace baton::plan {

// Within this comes a stream's next token, where its steps are quick enough.
inline constexpr Duration kTokenWithin = std::chrono::milliseconds(70);
inline constexpr Duration kLeastPiece = std::chrono::milliseconds(25);
inline constexpr Duration kMostPiece = std::chrono::milliseconds(50);

// After a batch of steps that took so long: what they leave of kTokenWithin. Where they are slow, more than half as
// long as they: else prompts would be read so slowly that few streams ever shared a step. One layer of a chunk is the
// least a piece may be, however long that takes.
constexpr Duration piece_time(Duration steps) {
  return std::clamp(std::max(kTokenWithin - steps, steps * 3 / 5), kLeastPiece, kMostPiece);
}

}  // namespace baton::plan
