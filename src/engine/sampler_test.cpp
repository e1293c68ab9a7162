#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace baton::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Sampler sampler_of(SamplerOptions options) { return Sampler::create(std::move(options)).value(); }

// How often each token comes at positions 0..draws.
std::map<Token, int> count_draws(Sampler sampler, const std::vector<float>& logits, int draws) {
  std::map<Token, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.sample(logits, static_cast<std::uint64_t>(i), {}).value()];
  return counts;
}

// The known answers published with Random123 (kat_vectors, philox4x32 10).
TEST(RandomBlock, MatchesThePublishedPhiloxVectors) {
  EXPECT_EQ(random_block(0, 0), (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(RandomBlock, DependsOnSeedAndPositionAlone) {
  EXPECT_EQ(uniform_at(7, 100), uniform_at(7, 100));
  EXPECT_NE(uniform_at(7, 100), uniform_at(7, 101));
  EXPECT_NE(uniform_at(7, 100), uniform_at(8, 100));
  EXPECT_NE(uniform_at(std::uint64_t{1} << 32, 0), uniform_at(0, std::uint64_t{1} << 32));
}

TEST(RandomBlock, IsUniform) {
  constexpr int kDraws = 100'000;
  std::array<int, 10> bins{};
  for (std::uint64_t i = 0; i < kDraws; ++i) ++bins[static_cast<std::size_t>(uniform_at(1, i) * 10)];
  for (const int bin : bins) EXPECT_NEAR(bin, kDraws / 10.0, 500);
}

TEST(Sampler, ChoosesTheLargestLogitAtTemperatureZero) {
  EXPECT_EQ(sampler_of({}).sample(std::vector<float>{1, 5, 3}, 0, {}).value(), 1);
}

TEST(Sampler, BreaksTiesByTheLowestId) {
  const std::vector<float> logits{1, 4, 4, 4};
  EXPECT_EQ(sampler_of({}).sample(logits, 0, {}).value(), 1);
  EXPECT_EQ(sampler_of({.temperature = 1, .top_k = 1}).sample(logits, 0, {}).value(), 1);
  EXPECT_EQ(sampler_of({.temperature = 1, .top_p = 0}).sample(logits, 0, {}).value(), 1);
}

TEST(Sampler, DrawsInProportionToProbability) {
  const std::vector<float> logits{std::log(1.0F), std::log(2.0F), std::log(7.0F)};
  const auto counts = count_draws(sampler_of({.temperature = 1, .seed = 3}), logits, 20'000);
  EXPECT_NEAR(counts.at(0), 2'000, 200);
  EXPECT_NEAR(counts.at(1), 4'000, 250);
  EXPECT_NEAR(counts.at(2), 14'000, 300);
}

TEST(Sampler, TemperatureFlattensTheDistribution) {
  const std::vector<float> logits{0, 2};
  const auto counts = count_draws(sampler_of({.temperature = 2, .seed = 3}), logits, 20'000);
  EXPECT_NEAR(counts.at(0), 20'000 / (1 + std::exp(1.0)), 300);
}

TEST(Sampler, TopKKeepsTheKBest) {
  const std::vector<float> logits{1, 1.5F, 0.5F, 1.2F};
  const auto counts = count_draws(sampler_of({.temperature = 1, .top_k = 2}), logits, 2'000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(3));
}

TEST(Sampler, TopPKeepsTheFewestThatReachTheSum) {
  // Probabilities 0.1, 0.4, 0.2, 0.3: 0.4 and 0.3 reach 0.65.
  const std::vector<float> logits{std::log(1.0F), std::log(4.0F), std::log(2.0F), std::log(3.0F)};
  const auto counts = count_draws(sampler_of({.temperature = 1, .top_p = 0.65F}), logits, 2'000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(3));
}

TEST(Sampler, TopPReachesIntoAFarTailWhereItMust) {
  // One token far ahead of 10,000 that together weigh as much as 0.06 of it.
  std::vector<float> logits(10'001, 0.0F);
  logits[0] = 12.0F + std::log(1.0F);
  const auto near_all = count_draws(sampler_of({.temperature = 1, .top_p = 0.9999F}), logits, 1'000);
  EXPECT_GT(near_all.size(), 20u);
  EXPECT_EQ(count_draws(sampler_of({.temperature = 1, .top_p = 0.9F}), logits, 1'000).size(), 1u);
}

TEST(Sampler, MinPDropsWhatIsUnlikelyBesideTheBest) {
  const std::vector<float> logits{std::log(1.0F), std::log(10.0F), std::log(6.0F)};
  const auto counts = count_draws(sampler_of({.temperature = 1, .min_p = 0.5F}), logits, 2'000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_FALSE(counts.contains(0));
}

TEST(Sampler, FiltersLookAtProbabilitiesBeforeTheTemperature) {
  // At temperature 100 the second is nearly as likely as the first, but the filter has dropped it.
  const std::vector<float> logits{std::log(1.0F), std::log(10.0F)};
  EXPECT_EQ(count_draws(sampler_of({.temperature = 100, .min_p = 0.5F}), logits, 500).size(), 1u);
}

TEST(Sampler, RepeatPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  const std::vector<Token> history{0};
  EXPECT_EQ(sampler_of({.repeat_penalty = 2}).sample(std::vector<float>{3, 2}, 1, history).value(), 1);
  EXPECT_EQ(sampler_of({.repeat_penalty = 2}).sample(std::vector<float>{-1, -1.5F}, 1, history).value(), 1);
}

TEST(Sampler, PresenceCountsOnceAndFrequencyEachTime) {
  const std::vector<Token> history{0, 0, 0};
  const std::vector<float> logits{3, 1};
  EXPECT_EQ(sampler_of({.presence_penalty = 1}).sample(logits, 3, history).value(), 0);
  EXPECT_EQ(sampler_of({.frequency_penalty = 1}).sample(logits, 3, history).value(), 1);
}

TEST(Sampler, PenaltiesForgetWhatLeftTheWindow) {
  const std::vector<Token> history{0, 1, 1};
  const std::vector<float> logits{3, 2, 1};
  EXPECT_EQ(sampler_of({.presence_penalty = 5, .penalty_window = 2}).sample(logits, 3, history).value(), 0);
  EXPECT_EQ(sampler_of({.presence_penalty = 5, .penalty_window = 3}).sample(logits, 3, history).value(), 2);
  EXPECT_EQ(sampler_of({.presence_penalty = 5, .penalty_window = 0}).sample(logits, 3, history).value(), 0);
  EXPECT_EQ(sampler_of({.presence_penalty = 5, .penalty_from = 2}).sample(logits, 3, history).value(), 0);
  EXPECT_EQ(sampler_of({.presence_penalty = 5, .penalty_from = 9}).sample(logits, 3, history).value(), 0);
}

TEST(Sampler, BiasFavoursAndForbids) {
  const std::vector<float> logits{3, 2, 1};
  EXPECT_EQ(sampler_of({.logit_bias = {{2, 5.0F}}}).sample(logits, 0, {}).value(), 2);
  EXPECT_EQ(sampler_of({.logit_bias = {{0, -kInfinity}}}).sample(logits, 0, {}).value(), 1);
  EXPECT_EQ(sampler_of({.logit_bias = {{1'000, 5.0F}}}).sample(logits, 0, {}).value(), 0);
}

TEST(Sampler, ContinuedElsewhereGivesTheSameTokens) {
  std::vector<float> logits(1'000);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(uniform_at(9, i)) * 4;
  const SamplerOptions options{.temperature = 0.8F, .top_k = 50, .top_p = 0.95F, .repeat_penalty = 1.1F, .seed = 42};
  const auto run = [&](Sampler sampler, std::vector<Token> tokens, std::size_t length) {
    while (tokens.size() < length) tokens.push_back(sampler.sample(logits, tokens.size(), tokens).value());
    return tokens;
  };
  const auto whole = run(sampler_of(options), {}, 60);
  const auto half = run(sampler_of(options), {}, 25);
  EXPECT_EQ(run(sampler_of(options), half, 60), whole);
}

TEST(Sampler, ReportsNanAndAcceptsMinusInfinity) {
  const auto nan = sampler_of({}).sample(std::vector<float>{0, std::nanf("")}, 5, {});
  ASSERT_FALSE(nan);
  EXPECT_EQ(nan.error().code, ErrorCode::kInternal);
  EXPECT_FALSE(sampler_of({}).sample(std::vector<float>{0, kInfinity}, 5, {}));
  EXPECT_EQ(sampler_of({.temperature = 1}).sample(std::vector<float>{-kInfinity, 0}, 5, {}).value(), 1);
  EXPECT_FALSE(sampler_of({.temperature = 1}).sample(std::vector<float>{-kInfinity, -kInfinity}, 5, {}));
  EXPECT_FALSE(sampler_of({}).sample(std::vector<float>{-kInfinity}, 5, {}));
  EXPECT_FALSE(sampler_of({}).sample({}, 5, {}));
}

TEST(Sampler, ChoosesAmongTheTokensThatMayCome) {
  std::vector<float> logits(70, 1);
  logits[3] = 9;
  logits[66] = 5;
  const std::vector<std::uint64_t> allowed{1U << 7, 1U << 2};
  EXPECT_EQ(sampler_of({}).sample(logits, 0, {}, allowed).value(), 66);
  EXPECT_EQ(sampler_of({}).sample(logits, 0, {}, std::span(allowed).first(1)).value(), 7);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Token drawn =
        sampler_of({.temperature = 100, .top_p = 0.99F, .seed = seed}).sample(logits, 1, {}, allowed).value();
    EXPECT_TRUE(drawn == 7 || drawn == 66) << drawn;
  }
  EXPECT_EQ(sampler_of({}).sample(logits, 0, {}, {}).error().code, ErrorCode::kInvalidArgument);
}

TEST(Sampler, SurvivesExtremeButAllowedNumbers) {
  const std::vector<float> logits{3e38F, -3e38F, 1};
  const std::vector<Token> history{0, 1, 2};
  const SamplerOptions extreme{
      .temperature = 1e-9F, .repeat_penalty = 1e-3F, .presence_penalty = 1e9F, .logit_bias = {{1, 1e9F}}};
  EXPECT_EQ(sampler_of(extreme).sample(logits, 0, history).value(), 0);
}

TEST(Sampler, RefusesOptionsOutOfRangeByName) {
  const auto refused = [](SamplerOptions options, std::string_view name) {
    const auto sampler = Sampler::create(std::move(options));
    return !sampler && sampler.error().message.contains(name);
  };
  EXPECT_TRUE(refused({.temperature = -1}, "temperature"));
  EXPECT_TRUE(refused({.temperature = std::nanf("")}, "temperature"));
  EXPECT_TRUE(refused({.top_p = 1.5F}, "top_p"));
  EXPECT_TRUE(refused({.min_p = -0.1F}, "min_p"));
  EXPECT_TRUE(refused({.repeat_penalty = 0}, "repeat_penalty"));
  EXPECT_TRUE(refused({.presence_penalty = kInfinity}, "presence_penalty"));
  EXPECT_TRUE(refused({.logit_bias = {{-1, 0.0F}}}, "logit_bias"));
  EXPECT_TRUE(refused({.logit_bias = {{1, kInfinity}}}, "logit_bias"));
}

}  // namespace
}  // namespace baton::engine
