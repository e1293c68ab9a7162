#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

using Words = std::vector<std::string_view>;

Words split(std::string_view name, std::string_view text) {
  const auto pre_tokenizer = PreTokenizer::create(name);
  EXPECT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
  Words words;
  EXPECT_TRUE(pre_tokenizer->split(text, words));
  return words;
}

TEST(PreTokenizer, EachOneKeepsEveryByteInItsPlace) {
  for (const PreTokenizerSpec& spec : pre_tokenizers()) {
    const auto pre_tokenizer = PreTokenizer::create(spec.names.front());
    ASSERT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
    ByteSource source(4);
    for (int round = 0; round < 300; ++round) {
      const std::string text = source.text(20);
      Words words;
      ASSERT_TRUE(pre_tokenizer->split(text, words));
      const char* place = text.data();
      for (const std::string_view word : words) {
        ASSERT_EQ(word.data(), place) << spec.names.front();
        ASSERT_FALSE(word.empty());
        place += word.size();
      }
      ASSERT_EQ(place, text.data() + text.size());
    }
  }
}

TEST(PreTokenizer, NamesAreUnique) {
  std::vector<std::string_view> names;
  for (const PreTokenizerSpec& spec : pre_tokenizers()) names.insert(names.end(), spec.names.begin(), spec.names.end());
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

TEST(PreTokenizer, AnUnknownOneIsRefusedByName) {
  const auto pre_tokenizer = PreTokenizer::create("klingon");
  ASSERT_FALSE(pre_tokenizer);
  EXPECT_EQ(pre_tokenizer.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(pre_tokenizer.error().message.find("klingon"), std::string::npos);
  EXPECT_NE(pre_tokenizer.error().message.find("gpt-2"), std::string::npos);
}

TEST(PreTokenizer, FamiliesDifferAsTheirModelsDo) {
  EXPECT_EQ(split("gpt-2", "it's  12345 x"), (Words{"it", "'s", " ", " 12345", " x"}));
  EXPECT_EQ(split("llama-bpe", "it's  12345 x"), (Words{"it", "'s", " ", " ", "123", "45", " x"}));
  EXPECT_EQ(split("qwen2", "123"), (Words{"1", "2", "3"}));
  EXPECT_EQ(split("starcoder", "a12"), (Words{"a", "1", "2"}));
  EXPECT_EQ(split("gpt-4o", "fooBar IT'S"), (Words{"foo", "Bar", " IT'S"}));
  EXPECT_EQ(split("kimi-k2", "ab日本c"), (Words{"ab", "日本", "c"}));
  EXPECT_EQ(split("deepseek-v3", "日本 ab12345"), (Words{"日本", " ab", "123", "45"}));
  EXPECT_EQ(split("exaone-moe", "one two, three"), (Words{"one two", ",", " three"}));
}

// U+180E was white space once, and PCRE2's \s still has it; Unicode's White_Space, U+2028 and U+0085 in it, has not.
TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(split("gpt-2", "a\u180Eb"), (Words{"a", "\u180E", "b"}));
  EXPECT_EQ(split("llama-bpe", "a\u2028\u0085 b"), (Words{"a", "\u2028\u0085", " b"}));
}

TEST(PreTokenizer, BytesThatAreNoUtf8AreWordsOfTheirOwn) {
  EXPECT_EQ(split("gpt-2", "ab\xFF\xE2\x82 cd\xC3"), (Words{"ab", "\xFF\xE2\x82", " cd", "\xC3"}));
}

}  // namespace
}  // namespace baton::text
