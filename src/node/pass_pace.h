// How long a pass is expected to compute until its next sign of life: a layer of a prompt's chunk, or a whole step.
// Before anything was timed, as on a slow machine; then as the slowest so far of its cost. Pure; not thread-safe.
#pragma once

#include "base/clock.h"
#include "model/cost.h"

namespace baton::node {

class PassPace {
 public:
  Duration expected(const model::Cost& cost) const;
  void note(const model::Cost& cost, Duration took);

 private:
  double slowness_ = 0;  // the slowest piece's time over a slow machine's; 0 before the first
};

}  // namespace baton::node
