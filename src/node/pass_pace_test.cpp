#include "node/pass_pace.h"

#include <gtest/gtest.h>

namespace baton::node {
namespace {

constexpr model::Cost kPiece{.flops = 2e12, .bytes = 1e9};

TEST(PassPace, ExpectsASlowMachineAtFirst) {
  const PassPace pace;
  // Two teraflops are a layer of 8B and 4,096 tokens, which a slow machine may well take minutes for.
  EXPECT_GT(pace.expected(kPiece), std::chrono::seconds(100));
  EXPECT_LT(pace.expected({.flops = 1e6, .bytes = 1e6}), std::chrono::milliseconds(10));
}

TEST(PassPace, ExpectsWhatItSawScaledByTheCost) {
  PassPace pace;
  pace.note(kPiece, std::chrono::seconds(4));
  EXPECT_NEAR(std::chrono::duration<double>(pace.expected(kPiece)).count(), 4, 1e-6);
  // A first chunk that a border cut short says what a whole one will take.
  const model::Cost whole{.flops = 8 * kPiece.flops, .bytes = 8 * kPiece.bytes};
  EXPECT_NEAR(std::chrono::duration<double>(pace.expected(whole)).count(), 32, 1e-6);
}

TEST(PassPace, RemembersTheSlowest) {
  PassPace pace;
  pace.note(kPiece, std::chrono::seconds(4));
  pace.note(kPiece, std::chrono::seconds(1));
  EXPECT_NEAR(std::chrono::duration<double>(pace.expected(kPiece)).count(), 4, 1e-6);
}

TEST(PassPace, WhatCostsNothingTeachesNothing) {
  PassPace pace;
  pace.note({}, std::chrono::seconds(4));
  EXPECT_EQ(pace.expected({}), Duration::zero());
  EXPECT_GT(pace.expected(kPiece), std::chrono::seconds(100));
}

}  // namespace
}  // namespace baton::node
