#include "text/token_cache.h"

#include <gtest/gtest.h>

#include "text/test_vocabularies.h"
#include "text/tokenizer.h"

namespace baton::text {
namespace {

std::string long_text(char letter) { return std::string(100, letter); }

TEST(TokenCache, GivesBackWhatItKeeps) {
  TokenCache cache(10'000);
  std::vector<Token> tokens{1};
  EXPECT_FALSE(cache.append_known(long_text('a'), tokens));
  cache.keep(long_text('a'), {7, 8});
  ASSERT_TRUE(cache.append_known(long_text('a'), tokens));
  EXPECT_EQ(tokens, (std::vector<Token>{1, 7, 8}));
  EXPECT_FALSE(cache.append_known(long_text('b'), tokens));
}

TEST(TokenCache, GivesUpWhatWasUsedLongestAgo) {
  TokenCache cache(450);
  for (const char letter : {'a', 'b', 'c', 'd'}) cache.keep(long_text(letter), {1});
  std::vector<Token> tokens;
  ASSERT_TRUE(cache.append_known(long_text('a'), tokens));
  cache.keep(long_text('e'), {1});
  EXPECT_TRUE(cache.append_known(long_text('a'), tokens));
  EXPECT_FALSE(cache.append_known(long_text('b'), tokens));
  EXPECT_LE(cache.bytes(), 450U);
}

TEST(TokenCache, KeepsNeitherShortNorHugeTexts) {
  TokenCache cache(1000);
  cache.keep("short", {1});
  cache.keep(std::string(300, 'x'), {1});
  EXPECT_EQ(cache.bytes(), 0U);
}

TEST(TokenCache, ChangesNoTokens) {
  const auto tokenizer = Tokenizer::create(Vocabulary::create(small_byte_pair()).value()).value();
  TokenCache cache(1 << 20);
  ByteSource source(5);
  std::string conversation;
  for (int turn = 0; turn < 20; ++turn) {
    conversation += source.text(60) + "<|end|>" + "<tool> " + source.text(3);
    MarkedText text;
    text.append(conversation);
    // A user's words that spell a control token are text, and known as such the next time.
    text.append("<|end|>", Origin::kForeign);
    EXPECT_EQ(tokenizer.encode(text, cache).value(), tokenizer.encode(text).value()) << turn;
  }
  EXPECT_GT(cache.bytes(), 0U);
}

}  // namespace
}  // namespace baton::text
