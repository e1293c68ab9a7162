#include "text/same_tokens.h"

#include <gtest/gtest.h>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

Vocabulary vocabulary(VocabularyData data) { return Vocabulary::create(std::move(data)).value(); }

void expect_differs(VocabularyData theirs, std::string_view what) {
  const Vocabulary ours = vocabulary(small_byte_pair());
  const auto same = check_same_tokens(ours, vocabulary(std::move(theirs)));
  ASSERT_FALSE(same) << what;
  EXPECT_EQ(same.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(same.error().message.find(what), std::string::npos) << same.error().message;
}

TEST(SameTokens, HoldsForTheSameVocabulary) {
  EXPECT_TRUE(check_same_tokens(vocabulary(small_byte_pair()), vocabulary(small_byte_pair())));
  EXPECT_TRUE(check_same_tokens(vocabulary(small_sentencepiece()), vocabulary(small_sentencepiece())));
}

TEST(SameTokens, NamesTheFirstDifference) {
  expect_differs(small_sentencepiece(), "SentencePiece, not byte pairs");
  VocabularyData data = small_byte_pair();
  data.tokens.at(5) = "quite another";
  expect_differs(data, "token 5 is 'quite another', not '" + small_byte_pair().tokens.at(5) + "'");
  data = small_byte_pair();
  data.types.at(6) = TokenType::kUserDefined;
  expect_differs(data, "has type 4, not 1");
  data = small_byte_pair();
  std::swap(data.merges.at(1), data.merges.at(2));
  expect_differs(data, "merge 1 is '" + small_byte_pair().merges.at(2) + "', not '");
  data = small_byte_pair();
  data.merges.pop_back();
  expect_differs(data, "is none, not '");
  data = small_byte_pair();
  add_token(data, "more", TokenType::kNormal);
  expect_differs(data, "only one of the two models has token");
}

TEST(SameTokens, LeavesOutPaddingAtTheEndOfEither) {
  VocabularyData padded = small_byte_pair();
  add_token(padded, "[PAD0]", TokenType::kUnused);
  add_token(padded, "[PAD1]", TokenType::kUnused);
  EXPECT_TRUE(check_same_tokens(vocabulary(small_byte_pair()), vocabulary(padded)));
  EXPECT_TRUE(check_same_tokens(vocabulary(padded), vocabulary(small_byte_pair())));
}

}  // namespace
}  // namespace baton::text
