#include "trust/cluster_time.h"

namespace baton::trust {

std::int64_t ClusterTime::at(TimePoint now) const {
  return base_s_ + std::chrono::duration_cast<std::chrono::seconds>(now - base_at_).count();
}

void ClusterTime::learn(std::int64_t seconds, TimePoint now) {
  if (seconds <= 0 || seconds > kLatest_s) return;
  if (base_s_ != 0 && seconds <= at(now)) return;
  base_s_ = seconds;
  base_at_ = now;
}

}  // namespace baton::trust
