#include "engine/prompt_lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace baton::engine {
namespace {

using Tokens = std::vector<Token>;

PromptLookup text_of(const Tokens& tokens) {
  PromptLookup lookup;
  for (const Token token : tokens) lookup.push(token);
  return lookup;
}

TEST(PromptLookup, GuessesWhatFollowedTheLongestAgreement) {
  const auto lookup = text_of({1, 2, 3, 4, 50, 60, 9, 3, 4, 70, 80, 2, 3, 4});
  const auto guess = lookup.guess(2);
  EXPECT_EQ(guess.matched, 3u);
  EXPECT_EQ(guess.tokens, (Tokens{50, 60}));
}

TEST(PromptLookup, PrefersTheLatestOfLikePlaces) {
  EXPECT_EQ(text_of({1, 2, 50, 1, 2, 60, 1, 2}).guess(1).tokens, Tokens{60});
}

TEST(PromptLookup, GoesOnWithItsOwnBeginningWhereAPhraseRepeats) {
  EXPECT_EQ(text_of({7, 1, 2, 3, 1, 2, 3, 1, 2}).guess(7).tokens, (Tokens{3, 1, 2, 3, 1, 2, 3}));
  EXPECT_EQ(text_of({5, 5, 5}).guess(3).tokens, (Tokens{5, 5, 5}));
}

TEST(PromptLookup, GuessesNothingWhereTheEndIsNew) {
  EXPECT_EQ(text_of({}).guess(4).matched, 0u);
  EXPECT_EQ(text_of({1}).guess(4).matched, 0u);
  EXPECT_EQ(text_of({1, 2, 3, 1}).guess(4).matched, 0u);
  EXPECT_TRUE(text_of({1, 2, 3, 4, 2}).guess(4).tokens.empty());
  EXPECT_TRUE(text_of({1, 2, 3, 1, 2}).guess(0).tokens.empty());
}

TEST(PromptLookup, FindsTheLongestAgreementOfAnyText) {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    PromptLookup lookup;
    Tokens text;
    for (int length = 0; length < 60; ++length) {
      text.push_back(static_cast<Token>(random() % 4));
      lookup.push(text.back());
      std::size_t longest = 0;
      for (std::size_t end = 1; end < text.size(); ++end) {
        std::size_t matched = 0;
        while (matched < end && text[end - 1 - matched] == text[text.size() - 1 - matched]) ++matched;
        longest = std::max(longest, std::min<std::size_t>(matched, PromptLookup::kMostMatch));
      }
      const auto guess = lookup.guess(3);
      EXPECT_EQ(guess.matched, longest >= PromptLookup::kLeastMatch ? longest : 0) << "after " << text.size();
      EXPECT_EQ(guess.tokens.size(), guess.matched == 0 ? 0u : 3u);
    }
  }
}

}  // namespace
}  // namespace baton::engine
