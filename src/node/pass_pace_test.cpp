#include "node/pass_pace.h"

#include <gtest/gtest.h>

namespace baton::node {
namespace {

using Weights = PassPace::Weights;

double expected_s(const PassPace& pace, const model::Cost& cost, Weights weights = Weights::kInMemory) {
  return std::chrono::duration<double>(pace.expected(cost, weights)).count();
}

constexpr model::Cost kPiece{.flops = 2e12, .bytes = 1e9};

TEST(PassPace, ExpectsASlowMachineAtFirst) {
  const PassPace pace;
  // Two teraflops are a layer of 8B and 4,096 tokens, which a slow machine may well take minutes for.
  EXPECT_GT(expected_s(pace, kPiece), 100);
  EXPECT_LT(expected_s(pace, {.flops = 1e6, .bytes = 1e6}), 0.01);
}

TEST(PassPace, ExpectsWhatItSawScaledByTheCost) {
  PassPace pace;
  pace.note(kPiece, std::chrono::seconds(4));
  EXPECT_NEAR(expected_s(pace, kPiece), 4, 1e-6);
  // A first chunk that a border cut short says what a whole one will take.
  const model::Cost whole{.flops = 8 * kPiece.flops, .bytes = 8 * kPiece.bytes};
  EXPECT_NEAR(expected_s(pace, whole), 32, 1e-6);
}

TEST(PassPace, RemembersTheSlowestForAWhile) {
  PassPace pace;
  pace.note(kPiece, std::chrono::seconds(4));
  for (int piece = 0; piece < 32; ++piece) pace.note(kPiece, std::chrono::seconds(1));
  EXPECT_NEAR(expected_s(pace, kPiece), 4, 0.2);
  for (int piece = 0; piece < 5000; ++piece) pace.note(kPiece, std::chrono::seconds(1));
  EXPECT_NEAR(expected_s(pace, kPiece), 1, 1e-6);
}

TEST(PassPace, WhatMayHaveToComeOffADiskMayTakeAsLong) {
  PassPace pace;
  // An expert layer: many weights, of which a token uses few.
  constexpr model::Cost kExperts{.flops = 1e10, .bytes = 4e9};
  pace.note(kExperts, std::chrono::milliseconds(100));
  EXPECT_NEAR(expected_s(pace, kExperts), 0.1, 1e-6);
  EXPECT_NEAR(expected_s(pace, kExperts, Weights::kMayBeCold), 2, 1e-6);
}

TEST(PassPace, WhatCostsNothingTeachesNothing) {
  PassPace pace;
  pace.note({}, std::chrono::seconds(4));
  EXPECT_EQ(expected_s(pace, {}), 0);
  EXPECT_GT(expected_s(pace, kPiece), 100);
}

}  // namespace
}  // namespace baton::node
