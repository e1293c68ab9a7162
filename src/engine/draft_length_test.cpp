#include "engine/draft_length.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace baton::engine {
namespace {

constexpr std::uint32_t kMostRows = 16;
constexpr std::uint32_t kConfidence = 4;

// A text of `tokens` tokens on a machine whose passes cost `cost(rows)` seconds, each guess right with a chance of
// `chance`. Returns how many times faster it is than without guesses.
double speedup(double chance, int tokens, const std::function<double(std::uint32_t)>& cost) {
  DraftLength length(kMostRows);
  std::mt19937 random(3);
  std::bernoulli_distribution right_guess(chance);
  double spent = 0;
  int made = 0;
  while (made < tokens) {
    std::uint32_t right = 0;
    while (right < kMostRows - 1 && right_guess(random)) ++right;
    const std::uint32_t checked = length.choose(kConfidence, kMostRows - 1);
    const std::uint32_t gained = 1 + std::min(checked, right);
    const double seconds = cost(checked + 1);
    length.passed(checked + 1, gained, seconds);
    // Of guesses not checked only the first is certain to have been seen.
    if (checked > 0) {
      length.guessed(kConfidence, gained - 1,
                     right < checked ? DraftLength::Ending::kWrong : DraftLength::Ending::kOpen);
    } else {
      length.guessed(kConfidence, right > 0 ? 1 : 0,
                     right > 0 ? DraftLength::Ending::kOpen : DraftLength::Ending::kWrong);
    }
    spent += seconds;
    made += static_cast<int>(gained);
  }
  return made * cost(1) / spent;
}

double almost_free(std::uint32_t rows) { return 0.02 * (1 + 0.02 * (rows - 1)); }
double as_dear_as_steps(std::uint32_t rows) { return 0.02 * rows; }
double between(std::uint32_t rows) { return 0.02 * (1 + 0.3 * (rows - 1)); }
double in_fours(std::uint32_t rows) { return 0.02 * (1 + (rows - 1) / 4); }

TEST(DraftLength, IsLongWhereGuessesAreRightAndRowsCheap) {
  EXPECT_GT(speedup(0.97, 300, almost_free), 6);
  EXPECT_GT(speedup(0.97, 300, between), 1.8);
  EXPECT_GT(speedup(0.9, 300, in_fours), 2);
}

TEST(DraftLength, LosesAlmostNothingWhereGuessesAreWrong) {
  for (const double chance : {0.0, 0.05, 0.2}) {
    for (const auto& cost : {almost_free, as_dear_as_steps, between, in_fours}) {
      EXPECT_GE(speedup(chance, 100, cost), 0.97) << chance;
      EXPECT_GE(speedup(chance, 2000, cost), 0.975) << chance;
    }
  }
}

TEST(DraftLength, LosesAlmostNothingWhereRowsCostAsMuchAsSteps) {
  for (const double chance : {0.5, 0.9, 1.0}) EXPECT_GE(speedup(chance, 500, as_dear_as_steps), 0.97) << chance;
}

TEST(DraftLength, NeedsASingleStepToKnowWhatIsWon) {
  DraftLength length(kMostRows);
  EXPECT_EQ(length.choose(kConfidence, 8), 0u);
  length.passed(1, 1, 0.02);
  EXPECT_EQ(length.choose(kConfidence, 8), 1u);
}

// The first step of all, on cold memory, must not make every later pass look good.
TEST(DraftLength, IsNotMisledByASlowSingleStep) {
  DraftLength length(kMostRows);
  length.passed(1, 1, 0.5);
  int checks = 0;
  for (int step = 0; step < 200; ++step) {
    const std::uint32_t checked = length.choose(kConfidence, 8);
    if (checked > 0) ++checks;
    if (checked > 0) length.guessed(kConfidence, 0, DraftLength::Ending::kWrong);
    length.passed(checked + 1, 1, checked > 0 ? 0.025 : 0.02);
  }
  EXPECT_LT(checks, 30);
}

TEST(DraftLength, ForgetsWhatItKnewOfGuessesThatNobodyAskedFor) {
  DraftLength length(kMostRows);
  length.passed(1, 1, 0.02);
  length.passed(2, 1, 0.021);
  for (int guess = 0; guess < 30; ++guess) length.guessed(kConfidence, 0, DraftLength::Ending::kWrong);
  for (int step = 0; step < 10; ++step) length.passed(1, 1, 0.02);
  EXPECT_EQ(length.choose(kConfidence, 8), 0u);
  for (int step = 0; step < 400; ++step) length.not_guessed(kConfidence);
  EXPECT_GT(length.choose(kConfidence, 8), 0u);
}

TEST(DraftLength, CountsWhatGuessesCostBesidePasses) {
  DraftLength length(kMostRows);
  length.passed(1, 1, 0.02);
  EXPECT_GT(length.choose(kConfidence, 8), 0u);
  length.lost(0.01);
  EXPECT_EQ(length.choose(kConfidence, 8), 0u);
  for (int step = 0; step < 50; ++step) length.passed(1, 1, 0.02);
  EXPECT_GT(length.choose(kConfidence, 8), 0u);
}

TEST(DraftLength, JudgesEachRankOfConfidenceByItself) {
  DraftLength length(kMostRows);
  length.passed(1, 1, 0.02);
  length.passed(2, 2, 0.025);
  for (int guess = 0; guess < 20; ++guess) {
    length.guessed(2, 0, DraftLength::Ending::kWrong);
    length.guessed(32, 3, DraftLength::Ending::kOpen);
  }
  EXPECT_EQ(length.choose(2, 8), 0u);
  EXPECT_GT(length.choose(32, 8), 1u);
}

TEST(DraftLength, TriesAgainWhatOnceWasSlow) {
  DraftLength length(kMostRows);
  for (int guess = 0; guess < 20; ++guess) length.guessed(kConfidence, 1, DraftLength::Ending::kOpen);
  length.passed(1, 1, 0.02);
  length.passed(2, 2, 0.5);  // something else was running
  EXPECT_EQ(length.choose(kConfidence, 8), 0u);
  for (int step = 0; step < 2000; ++step) length.passed(1, 1, 0.02);
  EXPECT_GT(length.choose(kConfidence, 8), 0u);
}

}  // namespace
}  // namespace baton::engine
