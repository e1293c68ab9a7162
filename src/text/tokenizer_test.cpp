#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include "text/detokenizer.h"
#include "text/pre_tokenizer.h"
#include "text/special_tokens.h"
#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

Tokenizer tokenizer_of(VocabularyData data) {
  auto vocabulary = Vocabulary::create(std::move(data));
  EXPECT_TRUE(vocabulary) << vocabulary.error().message;
  auto tokenizer = Tokenizer::create(std::move(*vocabulary));
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return std::move(*tokenizer);
}

using Names = std::vector<std::string>;

Names encode(const Tokenizer& tokenizer, std::string_view text, SpecialTokens mode = SpecialTokens::kAsPlainText) {
  const auto tokens = tokenizer.encode(text, mode);
  EXPECT_TRUE(tokens) << tokens.error().message;
  Names names;
  for (const Token token : *tokens) names.push_back(tokenizer.vocabulary().stored_text(token));
  return names;
}

// The bytes of a sequence, where half characters and bad bytes still stand.
std::string bytes_of(const Tokenizer& tokenizer, std::string_view text) {
  const auto tokens = tokenizer.encode(text, SpecialTokens::kAsPlainText);
  EXPECT_TRUE(tokens);
  std::string bytes;
  for (const Token token : *tokens) bytes += tokenizer.vocabulary().token_bytes(token);
  return bytes;
}

TEST(SentencePiece, MergesByScore) {
  const Tokenizer tokenizer = tokenizer_of(small_sentencepiece());
  EXPECT_EQ(encode(tokenizer, "hello"), (Names{"▁hello"}));
  EXPECT_EQ(encode(tokenizer, "hello hello"), (Names{"▁hello", "▁hello"}));
  EXPECT_EQ(encode(tokenizer, "hellhello"), (Names{"▁", "he", "ll", "hello"}));
  EXPECT_EQ(encode(tokenizer, ""), (Names{}));
  EXPECT_EQ(encode(tokenizer, "aaaaaaa"), (Names{"▁", "aaaa", "aa", "a"}));
}

TEST(SentencePiece, AddsASpaceOnlyWhereTheModelWantsIt) {
  auto data = small_sentencepiece();
  data.add_space_prefix = false;
  EXPECT_EQ(encode(tokenizer_of(data), "hello"), (Names{"hello"}));
}

TEST(SentencePiece, SpellsUnknownCharactersInBytes) {
  const Tokenizer tokenizer = tokenizer_of(small_sentencepiece());
  EXPECT_EQ(encode(tokenizer, "日b\xFF"), (Names{"▁", "<0xE6>", "<0x97>", "<0xA5>", "b", "<0xFF>"}));
}

TEST(SentencePiece, WithoutByteTokensAnUnknownCharacterIsOneUnknownToken) {
  VocabularyData data;
  data.kind = TokenizerKind::kSentencePiece;
  data.add_space_prefix = false;
  add_token(data, "a", TokenType::kNormal);
  EXPECT_EQ(tokenizer_of(data).encode("ab", SpecialTokens::kAsPlainText).error().code, ErrorCode::kUnsupported);
  data.unknown = add_token(data, "<unk>", TokenType::kUnknown);
  EXPECT_EQ(encode(tokenizer_of(data), "a日a"), (Names{"a", "<unk>", "a"}));
}

// A character may be part of a longer token without being one itself.
TEST(SentencePiece, MergesCharactersThatAreNoTokens) {
  auto data = small_sentencepiece();
  add_token(data, "xy", TokenType::kNormal, -3.0F);
  const Tokenizer tokenizer = tokenizer_of(data);
  EXPECT_EQ(encode(tokenizer, "xyx"), (Names{"▁", "xy", "<0x78>"}));
}

TEST(SentencePiece, NeverMakesAControlTokenFromPlainText) {
  auto data = small_sentencepiece();
  add_token(data, "<s", TokenType::kNormal, -2.0F);
  const Tokenizer tokenizer = tokenizer_of(data);
  EXPECT_EQ(encode(tokenizer, "<s>"), (Names{"▁", "<s", ">"}));
  EXPECT_EQ(encode(tokenizer, "<0x41>").back(), ">");
}

TEST(SentencePiece, ParsesControlTokensWhereAsked) {
  const Tokenizer tokenizer = tokenizer_of(small_sentencepiece());
  EXPECT_EQ(encode(tokenizer, "<s>hello</s>", SpecialTokens::kParse), (Names{"<s>", "▁hello", "</s>"}));
}

TEST(SentencePiece, RanksManyEqualScoresFromTheLeft) {
  auto data = small_sentencepiece();
  data.scores.assign(data.scores.size(), 0.0F);
  EXPECT_EQ(encode(tokenizer_of(data), "aaaaa"), (Names{"▁", "aaaa", "a"}));
}

TEST(BytePair, MergesByRankWithinWords) {
  const Tokenizer tokenizer = tokenizer_of(small_byte_pair());
  EXPECT_EQ(encode(tokenizer, "hello hello"), (Names{"hello", "Ġhello"}));
  EXPECT_EQ(encode(tokenizer, "hellé"), (Names{"he", "ll", "Ã©"}));
}

TEST(BytePair, TakesControlTokensOnlyWhereAskedAndUserDefinedOnesAlways) {
  const Tokenizer tokenizer = tokenizer_of(small_byte_pair());
  EXPECT_EQ(encode(tokenizer, "hello<|end|>", SpecialTokens::kParse), (Names{"hello", "<|end|>"}));
  EXPECT_EQ(encode(tokenizer, "<|end|>"), (Names{"<", "|", "e", "n", "d", "|", ">"}));
  EXPECT_EQ(encode(tokenizer, "a<tool>b"), (Names{"a", "<tool>", "b"}));
}

TEST(BytePair, AMergeWhosePartsOrProductAreNoTokensIsSpeltInBytes) {
  auto data = small_byte_pair();
  data.merges.insert(data.merges.begin(), "x y");
  data.merges.insert(data.merges.begin() + 1, "xy z");
  add_token(data, "xyz", TokenType::kNormal);
  const Tokenizer tokenizer = tokenizer_of(data);
  EXPECT_EQ(encode(tokenizer, "xyz"), (Names{"xyz"}));
  EXPECT_EQ(encode(tokenizer, "xya"), (Names{"x", "y", "a"}));
}

TEST(BytePair, TakesWholeWordsUnmergedWhereItsModelsDo) {
  auto data = small_byte_pair();
  add_token(data, "ĠxyzzyĠ", TokenType::kNormal);
  add_token(data, "Ġplugh", TokenType::kNormal);
  EXPECT_EQ(encode(tokenizer_of(data), " plugh").size(), 6U);
  data.pre = "llama-bpe";
  EXPECT_EQ(encode(tokenizer_of(data), " plugh"), (Names{"Ġplugh"}));
}

TEST(BytePair, NeedsMergesAndAKnownPreTokenizer) {
  auto data = small_byte_pair();
  data.pre = "klingon";
  EXPECT_EQ(Tokenizer::create(*Vocabulary::create(data)).error().code, ErrorCode::kUnsupported);
  data = small_byte_pair();
  data.merges.clear();
  EXPECT_EQ(Tokenizer::create(*Vocabulary::create(data)).error().code, ErrorCode::kCorrupt);
}

TEST(Tokenizer, ByteMissingFromTheVocabularyIsNamed) {
  auto data = small_byte_pair();
  for (std::string& token : data.tokens) {
    if (token == "q") token = "not q";
  }
  const auto tokens = tokenizer_of(data).encode("q", SpecialTokens::kAsPlainText);
  ASSERT_FALSE(tokens);
  EXPECT_NE(tokens.error().message.find("0x71"), std::string::npos) << tokens.error().message;
}

TEST(Tokenizer, SpecialTokensStripWhiteSpaceWhereTheyAreSaidTo) {
  auto data = small_byte_pair();
  data.strip_right = {*data.eos};
  EXPECT_EQ(encode(tokenizer_of(data), "a <|end|> \n b", SpecialTokens::kParse), (Names{"a", "Ġ", "<|end|>", "b"}));
  data.strip_left = data.strip_right;
  data.strip_right.clear();
  EXPECT_EQ(encode(tokenizer_of(data), "a \n<|end|> b", SpecialTokens::kParse), (Names{"a", "<|end|>", "Ġ", "b"}));
  EXPECT_EQ(encode(tokenizer_of(data), " \n<|end|>", SpecialTokens::kParse), (Names{"<|end|>"}));
}

TEST(Tokenizer, AVocabularyWithoutTextRefusesText) {
  VocabularyData data;
  add_token(data, "tok_0", TokenType::kNormal);
  const Tokenizer tokenizer = tokenizer_of(data);
  EXPECT_EQ(tokenizer.encode("x", SpecialTokens::kAsPlainText).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(detokenize(tokenizer.vocabulary(), std::vector<Token>{0, 0}), "tok_0tok_0");
}

TEST(Tokenizer, SaysWhatASequenceBeginsAndEndsWith) {
  auto data = small_sentencepiece();
  EXPECT_EQ(tokenizer_of(data).begin_sequence(), std::vector<Token>{1});
  EXPECT_EQ(tokenizer_of(data).end_sequence(), std::vector<Token>{});
  data.add_bos = false;
  data.add_eos = true;
  EXPECT_EQ(tokenizer_of(data).begin_sequence(), std::vector<Token>{});
  EXPECT_EQ(tokenizer_of(data).end_sequence(), std::vector<Token>{2});
}

TEST(Tokenizer, AnEndlessSpecialTokenIsRefused) {
  auto data = small_byte_pair();
  add_token(data, std::string(2000, 'a') + "b", TokenType::kUserDefined);
  EXPECT_EQ(Tokenizer::create(*Vocabulary::create(data)).error().code, ErrorCode::kCorrupt);
}

TEST(Tokenizer, NoByteIsLost) {
  auto plain = small_sentencepiece();
  plain.add_space_prefix = false;
  const Tokenizer sentence_piece = tokenizer_of(plain);
  const Tokenizer byte_pair = tokenizer_of(small_byte_pair());
  ByteSource source(5);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = source.text(12);
    ASSERT_EQ(bytes_of(sentence_piece, text), text);
    ASSERT_EQ(bytes_of(byte_pair, text), text);
  }
}

// In quadratic time these would take hours.
TEST(Tokenizer, HugeInputsEnd) {
  const Tokenizer sentence_piece = tokenizer_of(small_sentencepiece());
  const Tokenizer byte_pair = tokenizer_of(small_byte_pair());
  constexpr std::size_t kMegabyte = 1UL << 20;
  for (const std::string_view unit : {"a", " ", "\n", "\xFF", "é", "hello ", "9"}) {
    std::string text;
    while (text.size() < kMegabyte) text += unit;
    text += "x";
    EXPECT_EQ(bytes_of(sentence_piece, text).substr(1), text);
    EXPECT_EQ(bytes_of(byte_pair, text), text);
  }
}

TEST(Tokenizer, EveryPreTokenizerEndsOnHugeInputs) {
  for (const PreTokenizerSpec& spec : pre_tokenizers()) {
    auto data = small_byte_pair();
    data.pre = spec.names.front();
    const Tokenizer tokenizer = tokenizer_of(data);
    for (const char c : {'a', 'A', ' ', '\n', '7', '!'}) {
      const std::string text = std::string(200'000, c) + "x";
      EXPECT_EQ(bytes_of(tokenizer, text), text) << data.pre << " " << static_cast<int>(c);
    }
  }
}

TEST(SpecialTokenFinder, FindsTheLongestAtTheLeftmostPlace) {
  SpecialTokenFinder finder;
  EXPECT_FALSE(finder.find("anything", 0));
  finder.add("", 9);
  finder.add("<a", 1);
  finder.add("<ab>", 2);
  finder.add("b>", 3);
  const auto match = finder.find("x<ab>", 0);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->position, 1U);
  EXPECT_EQ(match->length, 4U);
  EXPECT_EQ(match->token, 2);
  EXPECT_EQ(finder.find("x<abb>", 0)->token, 1);
  EXPECT_EQ(finder.find("x<abb>", 2)->token, 3);
  EXPECT_FALSE(finder.find("<", 0));
  EXPECT_FALSE(finder.find("<a", 5));
}

}  // namespace
}  // namespace baton::text
