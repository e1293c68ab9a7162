// How long a model's passes here are expected to compute until their next sign of life: a layer of a prompt's chunk, or
// a whole step. Before anything was timed, as on a slow machine; then as the slowest of its cost, which is forgotten
// slowly. Pure; not thread-safe.
#pragma once

#include "base/clock.h"
#include "model/cost.h"

namespace baton::node {

class PassPace {
 public:
  // What a request computes first may have gone from memory since the last one.
  enum class Weights { kMayBeCold, kInMemory };
  Duration expected(const model::Cost& cost, Weights weights) const;
  void note(const model::Cost& cost, Duration took);

 private:
  double slowness_ = 0;  // the slowest piece's time over a slow machine's, a while after it less; 0 before the first
};

}  // namespace baton::node
