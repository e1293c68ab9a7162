// The time by which certificates and tokens of a cluster end. No machine's clock has to be right for it.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace baton::trust {

// Seconds since 1970, as far as anybody in the cluster knows: the latest that this node's clock, its certificate or any
// member has said, and it runs on by this machine's monotonic clock. It never goes back, so a machine whose clock is
// late comes forward as soon as it meets the others, and one whose clock is early takes them all along, which only
// makes them renew their certificates once.
class ClusterTime {
 public:
  ClusterTime(std::int64_t wall_s, TimePoint now) { learn(wall_s, now); }

  std::int64_t at(TimePoint now) const;
  // Somebody says that it is `seconds`; what no certificate could write down is nobody's time.
  void learn(std::int64_t seconds, TimePoint now);

  static constexpr std::int64_t kLatest_s = 200'000'000'000;  // in the year 8307

 private:
  std::int64_t base_s_ = 0;
  TimePoint base_at_{};
};

}  // namespace baton::trust
