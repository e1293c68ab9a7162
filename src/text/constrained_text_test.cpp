#include "text/constrained_text.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

class ConstrainedTextTest : public testing::Test {
 protected:
  // Random tokens among those that may come, until an end token or the room's end.
  std::string write(ConstrainedText& text, std::uint32_t room, ByteSource& random) const {
    std::string written;
    for (std::uint32_t left = room; left > 0; --left) {
      const auto allowed = text.allowed(left);
      EXPECT_TRUE(allowed);
      std::vector<Token> choices;
      for (std::size_t index = 0; index < vocabulary.size(); ++index) {
        if (((*allowed)[index / 64] >> (index % 64) & 1) != 0) choices.push_back(static_cast<Token>(index));
      }
      EXPECT_FALSE(choices.empty()) << written;
      if (choices.empty()) break;
      const Token token = choices[random.below(static_cast<std::uint32_t>(choices.size()))];
      if (token == end) break;
      text.push(token);
      written += vocabulary.token_bytes(token);
    }
    return written;
  }
  std::shared_ptr<TokenLanguage> close(std::unique_ptr<ByteLanguage> language, ByteLanguage::Node start) const {
    EXPECT_TRUE(language->close(start));
    return std::make_shared<TokenLanguage>(std::move(language), start, trie, std::vector<Token>{end});
  }

  Vocabulary vocabulary = Vocabulary::create(small_byte_pair()).value();
  Token end = vocabulary.find("<|end|>").value();
  std::shared_ptr<const TokenTrie> trie = std::make_shared<TokenTrie>(vocabulary, std::span<const Token>());
};

TEST_F(ConstrainedTextTest, EveryTextIsOneOfTheLanguage) {
  auto language = std::make_unique<ByteLanguage>();
  const auto start = language->one_of({"hello", "hello hello", "h\xC3\xA9", "help"});
  const auto held = close(std::move(language), start);
  ByteSource random(1);
  std::vector<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    ConstrainedText text(held);
    seen.push_back(write(text, 100, random));
  }
  std::ranges::sort(seen);
  seen.erase(std::ranges::unique(seen).begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<std::string>{"hello", "hello hello", "help", "h\xC3\xA9"}));
}

TEST_F(ConstrainedTextTest, EndsInTimeWhereTheRoomIsShort) {
  auto language = std::make_unique<ByteLanguage>();
  const auto inner = language->repeat(language->bytes(byte_range('a', 'z')), 0, ByteLanguage::kUnbounded);
  const auto start = language->sequence({language->literal("(("), inner, language->literal("))")});
  const auto held = close(std::move(language), start);
  ByteSource random(2);
  for (std::uint32_t room = 4; room < 40; ++room) {
    ConstrainedText text(held);
    const std::string written = write(text, room, random);
    EXPECT_TRUE(written.starts_with("((") && written.ends_with("))")) << room << ": " << written;
  }
}

// However far a count is from its bounds, what may come is what may come with counts that nobody has cut down.
TEST_F(ConstrainedTextTest, CountsAreKeptToTheLastByte) {
  for (const auto& [least, most] :
       {std::pair{0U, 70U}, {70U, 70U}, {50U, 90U}, {3U, 5U}, {60U, ByteLanguage::kUnbounded}}) {
    auto language = std::make_unique<ByteLanguage>();
    const auto letters = language->repeat(language->bytes(byte_range('a', 'z')), least, most);
    const auto start = language->sequence({language->literal("("), letters, language->literal(")")});
    const auto held = close(std::move(language), start);
    ByteSource random(least + most);
    for (const std::uint32_t room : {100U, 400U}) {
      ConstrainedText text(held);
      const std::string written = write(text, room, random);
      ASSERT_TRUE(written.starts_with('(') && written.ends_with(')')) << written;
      EXPECT_GE(written.size() - 2, least) << written;
      EXPECT_LE(written.size() - 2, most) << written;
    }
  }
}

TEST_F(ConstrainedTextTest, StatesThatNoTokenTellsApartAreOne) {
  ByteLanguage language;
  const auto letters = language.bytes(byte_range('a', 'z'));
  const auto state = [&](std::uint32_t least, std::uint32_t most) {
    return language.sequence({language.repeat(letters, least, most), language.literal(")")});
  };
  const auto far = state(100, 2000);
  const auto further = state(99, 1999);
  const auto near = state(4, 1999);
  ASSERT_TRUE(language.close(language.either({far, further, near})));
  EXPECT_EQ(language.alike(far, 8), language.alike(further, 8));
  EXPECT_NE(language.alike(near, 8), language.alike(further, 8));
  EXPECT_EQ(language.alike(near, 4000), near);
}

TEST_F(ConstrainedTextTest, AMarkMayBeAControlToken) {
  const std::vector<Token> marks{end};
  const TokenTrie with_marks(vocabulary, marks);
  EXPECT_EQ(with_marks.bytes_of(end), "<|end|>");
  EXPECT_EQ(trie->bytes_of(end), "");
}

TEST_F(ConstrainedTextTest, TheTrieHoldsEveryTokenOnceUnderItsBytes) {
  std::vector<std::string> spelled(trie->depth() + 1);
  std::size_t tokens = 0;
  for (const TokenTrie::Node& node : trie->nodes()) {
    spelled[node.depth + 1U] = spelled[node.depth] + static_cast<char>(node.byte);
    for (const Token token : trie->tokens_of(node)) {
      EXPECT_EQ(vocabulary.token_bytes(token), spelled[node.depth + 1U]);
      ++tokens;
    }
  }
  EXPECT_EQ(tokens, vocabulary.size() - 1);  // all but the control token
}

}  // namespace
}  // namespace baton::text
