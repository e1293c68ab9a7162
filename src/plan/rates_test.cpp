#include "plan/rates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/cost.h"
#include "plan/model_shapes.h"

namespace baton::plan {
namespace {

constexpr TimePoint kFirstRun{};

constexpr double kF16 = 2;

model::ModelShape llama_8b() { return find_model_shape("llama-3.1-8b-f16").value(); }

// What a device of these rates takes, by the same costs.
double read_s(const Rates& rates, std::uint32_t depth, std::uint32_t tokens) {
  const model::ModelShape model = llama_8b();
  const model::TokenRun run{depth, tokens};
  double seconds = model::head_cost(model, 1).bytes / rates.bytes_per_second;
  for (std::uint32_t layer = 0; layer < model.layer_count; ++layer) {
    const double attention = model::attention_flops(model, layer, {&run, 1});
    const double flops = model::layer_flops(model, layer, {&run, 1}) + (rates.attention_factor - 1) * attention;
    seconds += flops / rates.flops_per_second;
  }
  return seconds;
}

double write_s(const Rates& rates, std::uint32_t depth, std::uint32_t tokens) {
  const model::ModelShape model = llama_8b();
  double bytes = model::head_cost(model, 1).bytes * tokens;
  for (std::uint32_t layer = 0; layer < model.layer_count; ++layer) {
    for (std::uint32_t step = 0; step < tokens; ++step) {
      const model::TokenRun run{depth + step, 1};
      bytes += model::layer_bytes(model, layer, {&run, 1}, kF16 * (model.k_width() + model.v_width()));
    }
  }
  return bytes / rates.bytes_per_second;
}

Timings timings_of(const Rates& rates) {
  return {.shallow = {0, 512, read_s(rates, 0, 512)},
          .deep = {4096, 512, read_s(rates, 4096, 512)},
          .write = {0, 8, write_s(rates, 0, 8)}};
}

TEST(FitRates, FindsTheRatesThatGaveTheTimings) {
  for (const Rates& rates : {Rates{90e12, 1, 180e9}, Rates{0.5e12, 6, 40e9}, Rates{23.7e12, 2.5, 606e9}}) {
    const auto found = fit_rates(llama_8b(), kF16, timings_of(rates));
    ASSERT_TRUE(found) << found.error().to_string();
    EXPECT_NEAR(found->flops_per_second / rates.flops_per_second, 1, 1e-6);
    EXPECT_NEAR(found->attention_factor / rates.attention_factor, 1, 1e-6);
    EXPECT_NEAR(found->bytes_per_second / rates.bytes_per_second, 1, 1e-6);
  }
}

TEST(FitRates, TakesAttentionForNoSlowerWhereDepthWasNotTimed) {
  const Rates rates{10e12, 1, 100e9};
  Timings timings = timings_of(rates);
  timings.deep = timings.shallow;
  const auto found = fit_rates(llama_8b(), kF16, timings);
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_DOUBLE_EQ(found->attention_factor, 1);
  EXPECT_NEAR(found->flops_per_second / rates.flops_per_second, 1, 1e-6);
}

TEST(FitRates, SurvivesADeeperReadThatWasFaster) {
  Timings timings = timings_of({10e12, 1, 100e9});
  timings.deep.seconds = timings.shallow.seconds * 0.9;
  const auto found = fit_rates(llama_8b(), kF16, timings);
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_LE(found->attention_factor, 1);
  EXPECT_GT(found->attention_factor, 0);
}

TEST(FitRates, RefusesTimingsOfNothing) {
  const Timings good = timings_of({10e12, 1, 100e9});
  for (const double seconds : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    Timings bad = good;
    bad.write.seconds = seconds;
    EXPECT_FALSE(fit_rates(llama_8b(), kF16, bad));
  }
  Timings unlike = good;
  unlike.deep.tokens = 256;
  EXPECT_FALSE(fit_rates(llama_8b(), kF16, unlike));
}

TEST(CheckRates, RefusesWhatNoDeviceHas) {
  EXPECT_TRUE(check_rates({1e12, 1, 1e9}));
  EXPECT_FALSE(check_rates({}));
  EXPECT_FALSE(check_rates({std::numeric_limits<double>::infinity(), 1, 1e9}));
  EXPECT_FALSE(check_rates({1e12, -1, 1e9}));
  EXPECT_FALSE(check_rates({1e12, 1, std::numeric_limits<double>::quiet_NaN()}));
}

TEST(Correction, LearnsWhatHolds) {
  Correction correction;
  // It always takes half as long again as the device's own rates say.
  for (int request = 0; request < 15; ++request) correction.observe(2 * correction.factor(kFirstRun), 3, 1, kFirstRun);
  EXPECT_NEAR(correction.factor(kFirstRun), 1.5, 0.02);
}

TEST(Correction, ForgivesAnOutlier) {
  Correction correction;
  correction.observe(1, 1000, 1, kFirstRun);
  EXPECT_LT(correction.factor(kFirstRun), 1.14);
  for (int request = 0; request < 15; ++request) correction.observe(correction.factor(kFirstRun), 1, 1, kFirstRun);
  EXPECT_NEAR(correction.factor(kFirstRun), 1, 0.01);
}

TEST(Correction, FadesWhileNothingIsSeen) {
  Correction correction;
  for (int request = 0; request < 100; ++request) correction.observe(correction.factor(kFirstRun), 4, 1, kFirstRun);
  EXPECT_NEAR(correction.factor(kFirstRun), 4, 0.01);
  EXPECT_NEAR(correction.factor(kFirstRun + Correction::kHalfLife), 2, 0.01);
  EXPECT_NEAR(correction.factor(kFirstRun + 30 * Correction::kHalfLife), 1, 0.01);
  // What is seen then counts from there.
  correction.observe(1, 1, 1, kFirstRun + Correction::kHalfLife);
  EXPECT_NEAR(correction.factor(kFirstRun + Correction::kHalfLife), 2, 0.01);
}

// Some other work slowed it down to an eighth while it was measured.
TEST(Correction, UndoesAMeasurementOfABusyMachine) {
  Correction correction;
  for (int request = 0; request < 40; ++request) correction.observe(8 * correction.factor(kFirstRun), 1, 1, kFirstRun);
  EXPECT_NEAR(correction.factor(kFirstRun), 1.0 / 8, 0.01);
}

TEST(Correction, StaysWithinItsBounds) {
  Correction slow;
  Correction fast;
  for (int request = 0; request < 1000; ++request) {
    slow.observe(1, 100, 1, kFirstRun);
    fast.observe(100, 1, 1, kFirstRun);
  }
  EXPECT_DOUBLE_EQ(slow.factor(kFirstRun), Correction::kMost);
  EXPECT_DOUBLE_EQ(fast.factor(kFirstRun), Correction::kLeast);
}

TEST(Correction, LearnsNothingFromWhatIsNoTime) {
  Correction correction;
  correction.observe(0, 1, 1, kFirstRun);
  correction.observe(1, 0, 1, kFirstRun);
  correction.observe(1, std::numeric_limits<double>::quiet_NaN(), 1, kFirstRun);
  correction.observe(std::numeric_limits<double>::infinity(), 1, 1, kFirstRun);
  EXPECT_DOUBLE_EQ(correction.factor(kFirstRun), 1);
}

}  // namespace
}  // namespace baton::plan
