#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

Vocabulary vocabulary_of(VocabularyData data) {
  auto vocabulary = Vocabulary::create(std::move(data));
  EXPECT_TRUE(vocabulary);
  return std::move(*vocabulary);
}

Token named(const Vocabulary& vocabulary, std::string_view name) {
  const auto token = vocabulary.find(name);
  EXPECT_TRUE(token) << name;
  return token.value_or(0);
}

std::vector<Token> byte_tokens(const Vocabulary& vocabulary, std::string_view bytes) {
  std::vector<Token> tokens;
  for (const char c : bytes) tokens.push_back(*vocabulary.byte_token(static_cast<std::uint8_t>(c)));
  return tokens;
}

TEST(Detokenizer, NeverEmitsHalfACharacter) {
  const Vocabulary vocabulary = vocabulary_of(small_sentencepiece());
  const std::string text = "aé日👍🏽\u0301z";
  Detokenizer detokenizer(vocabulary);
  std::string out;
  for (const Token token : byte_tokens(vocabulary, text)) {
    const std::string piece = detokenizer.push(token);
    EXPECT_EQ(valid_prefix_length(piece), piece.size());
    out += piece;
    EXPECT_TRUE(text.starts_with(out));
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(detokenizer.finish(), "");
}

// Each character cut short at each place, then followed by plain text.
TEST(Detokenizer, ReplacesACharacterCutShortAtAnyPlace) {
  const Vocabulary vocabulary = vocabulary_of(small_sentencepiece());
  for (const std::string_view character : {"é", "日", "👍"}) {
    for (std::size_t size = 1; size < character.size(); ++size) {
      Detokenizer detokenizer(vocabulary);
      for (const Token token : byte_tokens(vocabulary, character.substr(0, size)))
        EXPECT_EQ(detokenizer.push(token), "");
      EXPECT_EQ(detokenizer.push(named(vocabulary, "b")), std::string(kReplacementCharacter) + "b");
      EXPECT_EQ(detokenizer.finish(), "");
    }
  }
}

TEST(Detokenizer, FinishReplacesWhatWaits) {
  const Vocabulary vocabulary = vocabulary_of(small_sentencepiece());
  Detokenizer detokenizer(vocabulary);
  EXPECT_EQ(detokenizer.push(byte_tokens(vocabulary, "\xE6")[0]), "");
  EXPECT_EQ(detokenizer.finish(), kReplacementCharacter);
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, CharactersMayBeCutAcrossTokens) {
  const Vocabulary vocabulary = vocabulary_of(small_byte_pair());
  Detokenizer detokenizer(vocabulary);
  EXPECT_EQ(detokenizer.push(named(vocabulary, "Ã")), "");
  EXPECT_EQ(detokenizer.push(named(vocabulary, "©")), "é");
  EXPECT_EQ(detokenizer.push(named(vocabulary, "Ã©")), "é");
}

TEST(Detokenizer, TheAddedSpaceGoesAgainAtTheBeginningOnly) {
  const Vocabulary vocabulary = vocabulary_of(small_sentencepiece());
  const std::vector<Token> tokens{1, named(vocabulary, "▁hello"), named(vocabulary, "▁hello"), 2};
  EXPECT_EQ(detokenize(vocabulary, tokens), "hello hello");
  EXPECT_EQ(detokenize(vocabulary, std::vector<Token>{named(vocabulary, "▁▁"), named(vocabulary, "▁▁")}), "   ");
  EXPECT_EQ(detokenize(vocabulary, std::vector<Token>{named(vocabulary, "b"), named(vocabulary, "▁hello")}), "b hello");
  Detokenizer continuation(vocabulary, TextStart::kContinuation);
  EXPECT_EQ(continuation.push(named(vocabulary, "▁hello")), " hello");

  auto data = small_sentencepiece();
  data.add_space_prefix = false;
  const Vocabulary without = vocabulary_of(data);
  EXPECT_EQ(detokenize(without, std::vector<Token>{named(without, "▁hello")}), " hello");
}

TEST(Detokenizer, ANewTextMayBeginAfterFinish) {
  const Vocabulary vocabulary = vocabulary_of(small_sentencepiece());
  Detokenizer detokenizer(vocabulary);
  for (int text = 0; text < 2; ++text) {
    EXPECT_EQ(detokenizer.push(named(vocabulary, "▁hello")), "hello");
    EXPECT_EQ(detokenizer.push(named(vocabulary, "▁hello")), " hello");
    EXPECT_EQ(detokenizer.finish(), "");
  }
}

TEST(Detokenizer, ControlTokensShowOnlyWhereAsked) {
  const Vocabulary vocabulary = vocabulary_of(small_byte_pair());
  const std::vector<Token> tokens{named(vocabulary, "hello"), named(vocabulary, "<|end|>"),
                                  named(vocabulary, "<tool>")};
  EXPECT_EQ(detokenize(vocabulary, tokens), "hello<tool>");
  EXPECT_EQ(detokenize(vocabulary, tokens, ControlTokens::kShow), "hello<|end|><tool>");
  const std::vector<Token> cut{named(vocabulary, "Ã"), named(vocabulary, "<|end|>")};
  EXPECT_EQ(detokenize(vocabulary, cut, ControlTokens::kShow), std::string(kReplacementCharacter) + "<|end|>");
}

TEST(Detokenizer, ATokenThatDoesNotExistGivesNothing) {
  const Vocabulary vocabulary = vocabulary_of(small_byte_pair());
  Detokenizer detokenizer(vocabulary);
  EXPECT_EQ(detokenizer.push(-1), "");
  EXPECT_EQ(detokenizer.push(1'000'000), "");
}

}  // namespace
}  // namespace baton::text
