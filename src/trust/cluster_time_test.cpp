#include "trust/cluster_time.h"

#include <gtest/gtest.h>

namespace baton::trust {
namespace {

using std::chrono::seconds;

TEST(ClusterTime, RunsByTheMonotonicClock) {
  const TimePoint start{};
  const ClusterTime time(1000, start);
  EXPECT_EQ(time.at(start + seconds(5)), 1005);
}

TEST(ClusterTime, ComesForwardAndNeverGoesBack) {
  const TimePoint start{};
  ClusterTime time(1000, start);
  time.learn(900, start);
  EXPECT_EQ(time.at(start), 1000);
  time.learn(5000, start + seconds(10));
  EXPECT_EQ(time.at(start + seconds(11)), 5001);
  time.learn(5000, start + seconds(12));
  EXPECT_EQ(time.at(start + seconds(12)), 5002);
}

TEST(ClusterTime, TakesNothingThatNoCertificateCouldSay) {
  const TimePoint start{};
  ClusterTime time(1000, start);
  time.learn(ClusterTime::kLatest_s + 1, start);
  time.learn(INT64_MAX, start);
  time.learn(INT64_MIN, start);
  EXPECT_EQ(time.at(start), 1000);
}

}  // namespace
}  // namespace baton::trust
