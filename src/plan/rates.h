// A device's coefficients, found by timing it at work, and kept right by what its work takes later. Pure functions and
// values.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/result.h"
#include "model/shape.h"

namespace baton::plan {

// Of one device with one model. See plan::Device for what they mean.
struct Rates {
  double flops_per_second = 0;
  double attention_factor = 1;
  double bytes_per_second = 0;

  bool operator==(const Rates&) const = default;
};

// kInvalidArgument where they are none that a device could have: not finite, not above 0, or beyond any machine.
Result<void> check_rates(const Rates& rates);

// Tokens that were read in one pass, the last one's logits computed, with so many already in the cache.
struct TimedRead {
  std::uint32_t depth = 0;
  std::uint32_t tokens = 0;
  double seconds = 0;
};

// Tokens that were written one by one, behind so many in the cache.
struct TimedWrite {
  std::uint32_t depth = 0;
  std::uint32_t tokens = 0;
  double seconds = 0;
};

struct Timings {
  TimedRead shallow;
  TimedRead deep;  // the same number of tokens, deeper in a text; as shallow where none was timed
  TimedWrite write;
};

// The rates with which the model's costs (src/model/cost.h) give these seconds: bytes from the writing, the attention
// factor from what depth adds to reading, FLOPs from the rest. kInvalidArgument for timings of nothing.
Result<Rates> fit_rates(const model::ModelShape& shape, double kv_bytes_per_value, const Timings& timings);

// How many times as long as predicted a phase takes: a running factor between kLeast and kMost. One observation moves
// it by an eighth at most, so that an outlier does no harm, and what holds is learned within some ten requests. What
// was learned fades while nothing is seen: a device that was slow for a while, and therefore not asked any more, is
// tried again.
class Correction {
 public:
  // Wide enough for a device that was measured while it was busy with something else.
  static constexpr double kLeast = 1.0 / 16;
  static constexpr double kMost = 16;
  // In which half of it is forgotten: from four times as long to twice.
  static constexpr Duration kHalfLife = std::chrono::minutes(10);

  double factor(TimePoint time) const;
  // `weight` of 1 counts full. What was predicted with the factor of `time`, and what it took; nothing is learned from
  // numbers that are not above 0.
  void observe(double predicted_s, double actual_s, double weight, TimePoint time);

 private:
  double factor_ = 1;
  TimePoint seen_{};
};

}  // namespace baton::plan
