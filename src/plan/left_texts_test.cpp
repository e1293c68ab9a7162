#include "plan/left_texts.h"

#include <gtest/gtest.h>

namespace baton::plan {
namespace {

std::vector<Token> tokens(Token first, std::size_t count) {
  std::vector<Token> made;
  for (std::size_t index = 0; index < count; ++index) made.push_back(first + static_cast<Token>(index));
  return made;
}

TEST(LeftTexts, KnowsTheLongestBeginningOfEachNode) {
  LeftTexts left;
  left.add("a", tokens(0, 10));
  left.add("a", tokens(100, 10));
  left.add("b", tokens(0, 4));
  EXPECT_EQ(left.common_tokens("a", tokens(0, 30)), 10U);
  EXPECT_EQ(left.common_tokens("a", tokens(0, 7)), 7U);
  EXPECT_EQ(left.common_tokens("a", tokens(100, 30)), 10U);
  EXPECT_EQ(left.common_tokens("b", tokens(0, 30)), 4U);
  EXPECT_EQ(left.common_tokens("b", tokens(5, 30)), 0U);
  EXPECT_EQ(left.common_tokens("c", tokens(0, 30)), 0U);
}

TEST(LeftTexts, ForgetsANode) {
  LeftTexts left;
  left.add("a", tokens(0, 10));
  left.add("b", tokens(0, 10));
  left.forget("a");
  EXPECT_EQ(left.common_tokens("a", tokens(0, 10)), 0U);
  EXPECT_EQ(left.common_tokens("b", tokens(0, 10)), 10U);
}

TEST(LeftTexts, ForgetsTheOldestAndCountsAConversationOnce) {
  LeftTexts left;
  left.add("a", tokens(-1, 10));
  // Turns of one conversation, each the beginning of the next.
  for (std::size_t turn = 1; turn <= 100; ++turn) left.add("a", tokens(0, turn * LeftTexts::kMostTokens / 200));
  EXPECT_EQ(left.common_tokens("a", tokens(-1, 10)), 10U);
  left.add("b", tokens(7, LeftTexts::kMostTokens));
  EXPECT_EQ(left.common_tokens("a", tokens(-1, 10)), 0U);
  EXPECT_EQ(left.common_tokens("b", tokens(7, 10)), 10U);
}

}  // namespace
}  // namespace baton::plan
