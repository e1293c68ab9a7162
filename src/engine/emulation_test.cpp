#include "engine/emulation.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace baton::engine {
namespace {

using std::chrono::milliseconds;

// Time that passes only when told to; sleeping may end late by `oversleep`.
struct FakeTime {
  TimePoint at{std::chrono::seconds(1000)};
  Duration oversleep{};
  std::vector<TimePoint> deadlines;

  EmulationTime time() {
    return {.now = [this] { return at; },
            .sleep_until =
                [this](TimePoint deadline) {
                  deadlines.push_back(deadline);
                  at = std::max(at, deadline + oversleep);
                }};
  }
};

// 1 TFLOPS and 100 GB/s: 1e10 FLOPs are 10 ms, 1e9 bytes too.
Emulation emulation_of(FakeTime& fake) {
  return *Emulation::create({.teraflops = 1, .gigabytes_per_second = 100}, fake.time());
}

constexpr model::Cost kTenMs{.flops = 1e10, .bytes = 0};

TEST(Emulation, TakesTheLongerOfComputingAndReading) {
  FakeTime fake;
  const Emulation emulation = emulation_of(fake);
  EXPECT_EQ(emulation.duration_of({.flops = 1e10, .bytes = 1e8}), milliseconds(10));
  EXPECT_EQ(emulation.duration_of({.flops = 1e9, .bytes = 2e9}), milliseconds(20));
}

TEST(Emulation, SleepsToAbsoluteDeadlinesSoThatOversleepIsRepaid) {
  FakeTime fake;
  fake.oversleep = milliseconds(3);
  Emulation emulation = emulation_of(fake);
  const TimePoint start = fake.at;
  emulation.begin_pass();
  for (int layer = 0; layer < 10; ++layer) {
    fake.at += milliseconds(1);  // the real work
    emulation.finish(kTenMs);
  }
  for (int layer = 0; layer < 10; ++layer) EXPECT_EQ(fake.deadlines[layer], start + milliseconds(10) * (layer + 1));
  EXPECT_EQ(fake.at, start + milliseconds(103));
  EXPECT_EQ(emulation.report().emulated, milliseconds(100));
  EXPECT_TRUE(emulation.report().valid());
}

TEST(Emulation, StartsFromNowAfterIdleTime) {
  FakeTime fake;
  Emulation emulation = emulation_of(fake);
  emulation.begin_pass();
  emulation.finish(kTenMs);
  fake.at += milliseconds(500);
  const TimePoint start = fake.at;
  emulation.begin_pass();
  emulation.finish(kTenMs);
  EXPECT_EQ(fake.at, start + milliseconds(10));
}

TEST(Emulation, CountsByHowMuchAPassEndsLate) {
  FakeTime fake;
  Emulation emulation = emulation_of(fake);
  emulation.begin_pass();
  fake.at += milliseconds(14);  // 4 ms late
  emulation.finish(kTenMs);
  fake.at += milliseconds(10);  // still 4 ms late, no later
  emulation.finish(kTenMs);
  EXPECT_EQ(emulation.report().overrun, milliseconds(4));
  EXPECT_TRUE(fake.deadlines.empty());
  fake.at += milliseconds(7);  // 1 ms late
  emulation.finish(kTenMs);
  EXPECT_TRUE(fake.deadlines.empty());
  EXPECT_EQ(emulation.report().overrun, milliseconds(1));
  emulation.begin_pass();  // what was late stays lost
  fake.at += milliseconds(13);
  emulation.finish(kTenMs);
  EXPECT_EQ(emulation.report().overrun, milliseconds(4));
  fake.at += milliseconds(2);  // all made up
  emulation.finish(kTenMs);
  EXPECT_EQ(fake.deadlines.size(), 1U);
  EXPECT_EQ(emulation.report().overrun, milliseconds(1));
}

TEST(Emulation, IsInvalidAboveOnePercentOfOverrunUntilReset) {
  FakeTime fake;
  Emulation emulation = emulation_of(fake);
  emulation.begin_pass();
  fake.at += milliseconds(11);
  emulation.finish(kTenMs);
  EXPECT_NEAR(emulation.report().overrun_fraction(), 0.1, 1e-9);
  EXPECT_FALSE(emulation.report().valid());
  emulation.reset_report();
  EXPECT_TRUE(emulation.report().valid());
  emulation.begin_pass();
  emulation.finish(kTenMs);
  EXPECT_TRUE(emulation.report().valid());
  EXPECT_EQ(emulation.report().emulated, milliseconds(10));
}

TEST(Emulation, RefusesRatesThatMakeNoSense) {
  for (const double rate :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_FALSE(Emulation::create({.teraflops = rate, .gigabytes_per_second = 1}));
    EXPECT_FALSE(Emulation::create({.teraflops = 1, .gigabytes_per_second = rate}));
  }
}

}  // namespace
}  // namespace baton::engine
