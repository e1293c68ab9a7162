#include "text/vocabulary.h"

#include <gtest/gtest.h>

#include <memory>

#include <limits>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

void expect_corrupt(VocabularyData data, std::string_view what) {
  const auto vocabulary = Vocabulary::create(std::move(data));
  ASSERT_FALSE(vocabulary) << what;
  EXPECT_EQ(vocabulary.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(vocabulary.error().message.find(what), std::string::npos) << vocabulary.error().message;
}

TEST(Vocabulary, ContradictionsAreNamed) {
  VocabularyData data;
  data.kind = TokenizerKind::kSentencePiece;
  expect_corrupt(data, "no tokens");
  data = small_sentencepiece();
  data.scores.pop_back();
  expect_corrupt(data, "tokens but 283 scores");
  data = small_sentencepiece();
  data.types.pop_back();
  expect_corrupt(data, "tokens but 283 token types");
  data = small_sentencepiece();
  data.scores.at(7) = std::numeric_limits<float>::quiet_NaN();
  expect_corrupt(data, "score of token 7");
  data = small_sentencepiece();
  data.types.at(9) = static_cast<TokenType>(77);
  expect_corrupt(data, "token 9 has the unknown type 77");
  data = small_sentencepiece();
  data.tokens.at(5) = "<0xZZ>";
  expect_corrupt(data, "token 5 is a byte token");
}

TEST(Vocabulary, IdsOutOfRangeAreNamed) {
  for (const Token bad : {-1, 284, std::numeric_limits<Token>::max(), std::numeric_limits<Token>::min()}) {
    auto data = small_sentencepiece();
    data.bos = bad;
    expect_corrupt(data, "BOS");
    data = small_sentencepiece();
    data.eos = bad;
    expect_corrupt(data, "EOS");
    data = small_sentencepiece();
    data.eot = bad;
    expect_corrupt(data, "EOT");
    data = small_sentencepiece();
    data.unknown = bad;
    expect_corrupt(data, "unknown");
    data = small_sentencepiece();
    data.strip_right = {bad};
    expect_corrupt(data, "stripping");
    data = small_sentencepiece();
    data.padding = bad;
    EXPECT_FALSE(Vocabulary::create(data)->padding());
  }
}

TEST(Vocabulary, MergesHaveTwoParts) {
  for (const char* bad : {"", " ", "a", "a ", " a"}) {
    auto data = small_byte_pair();
    data.merges.at(3) = bad;
    expect_corrupt(data, "merge 3");
  }
}

TEST(Vocabulary, StillFindsItsTokensAfterAMove) {
  std::unique_ptr<Vocabulary> vocabulary;
  {
    auto made = Vocabulary::create(small_sentencepiece());
    ASSERT_TRUE(made);
    vocabulary = std::make_unique<Vocabulary>(std::move(*made));
  }
  EXPECT_EQ(vocabulary->find("<s>"), 1);
  EXPECT_EQ(vocabulary->find("no such token"), std::nullopt);
  EXPECT_EQ(vocabulary->token_bytes(*vocabulary->find("▁hello")), " hello");
  EXPECT_EQ(vocabulary->byte_token('A'), *vocabulary->find("<0x41>"));
}

TEST(Vocabulary, BytesOfTokensFollowTheKindOfVocabulary) {
  const auto sentence_piece = Vocabulary::create(small_sentencepiece());
  EXPECT_EQ(sentence_piece->token_bytes(*sentence_piece->find("<0xE9>")), "\xE9");
  EXPECT_EQ(sentence_piece->token_bytes(1), "<s>");
  const auto byte_pair = Vocabulary::create(small_byte_pair());
  EXPECT_EQ(byte_pair->token_bytes(*byte_pair->find("Ġhello")), " hello");
  EXPECT_EQ(byte_pair->token_bytes(*byte_pair->find("Ã©")), "é");
  EXPECT_EQ(byte_pair->token_bytes(*byte_pair->find("<tool>")), "<tool>");
}

TEST(Vocabulary, KnowsByNameWhatEndsAnAnswer) {
  auto data = small_byte_pair();
  data.eos.reset();
  const Token named = add_token(data, "<|im_end|>", TokenType::kNormal);
  const Token eot = add_token(data, "<some turn>", TokenType::kControl);
  data.eot = eot;
  const auto vocabulary = Vocabulary::create(data);
  EXPECT_TRUE(vocabulary->ends_generation(named));
  EXPECT_EQ(vocabulary->type(named), TokenType::kControl);
  EXPECT_TRUE(vocabulary->ends_generation(eot));
  EXPECT_TRUE(vocabulary->ends_generation(*vocabulary->find("<|end|>")));
  EXPECT_FALSE(vocabulary->ends_generation(*vocabulary->find("hello")));
}

TEST(Vocabulary, AMessagesEndIsNoAnswersEndWhereThereIsAReturn) {
  auto data = small_byte_pair();
  data.eos = add_token(data, "<|return|>", TokenType::kControl);
  const auto vocabulary = Vocabulary::create(data);
  EXPECT_TRUE(vocabulary->ends_generation(*vocabulary->find("<|return|>")));
  EXPECT_FALSE(vocabulary->ends_generation(*vocabulary->find("<|end|>")));
}

TEST(Vocabulary, CustomsHoldWhereTheFileIsSilent) {
  auto data = small_sentencepiece();
  EXPECT_TRUE(Vocabulary::create(data)->add_bos());
  EXPECT_TRUE(Vocabulary::create(data)->add_space_prefix());
  EXPECT_FALSE(Vocabulary::create(data)->add_eos());
  data.add_bos = false;
  data.add_space_prefix = false;
  data.add_eos = true;
  EXPECT_FALSE(Vocabulary::create(data)->add_bos());
  EXPECT_FALSE(Vocabulary::create(data)->add_space_prefix());
  EXPECT_TRUE(Vocabulary::create(data)->add_eos());

  data = small_byte_pair();
  data.bos = 0;
  EXPECT_FALSE(Vocabulary::create(data)->add_bos());
  data.pre = "llama-bpe";
  EXPECT_TRUE(Vocabulary::create(data)->add_bos());
  data.bos.reset();
  EXPECT_FALSE(Vocabulary::create(data)->add_bos());
}

TEST(Vocabulary, OneWithoutTextMayBeEmpty) {
  VocabularyData data;
  data.bos = 1;
  data.eos = 2;
  const auto vocabulary = Vocabulary::create(data);
  ASSERT_TRUE(vocabulary);
  EXPECT_EQ(vocabulary->size(), 0U);
  EXPECT_FALSE(vocabulary->bos());
}

}  // namespace
}  // namespace baton::text
