#include "serve/fitting.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

constexpr Room kRoom{.context_tokens = 100, .default_new_tokens = 30};

CanonicalRequest request_of(std::initializer_list<std::size_t> lengths) {
  CanonicalRequest asked;
  for (const std::size_t length : lengths) asked.prompts.emplace_back(length, Token{5});
  return asked;
}

// The context of the refusal; "" where it fits.
std::string refusal(CanonicalRequest asked) {
  const auto fits = fit(asked, kRoom);
  if (fits) return "";
  EXPECT_EQ(fits.error().code, ErrorCode::kInvalidArgument);
  return fits.error().context;
}

std::string refusal_of(std::size_t prompt_tokens, std::uint32_t new_tokens) {
  CanonicalRequest asked = request_of({prompt_tokens});
  asked.max_new_tokens = new_tokens;
  return refusal(std::move(asked));
}

TEST(Fit, FillsInALengthThatFitsBehindTheLongestPrompt) {
  CanonicalRequest asked = request_of({10, 20});
  ASSERT_TRUE(fit(asked, kRoom));
  EXPECT_EQ(asked.max_new_tokens, 30u);
  asked = request_of({10, 95});
  ASSERT_TRUE(fit(asked, kRoom));
  EXPECT_EQ(asked.max_new_tokens, 5u);
}

TEST(Fit, SaysWhichParameterAsksTooMuch) {
  EXPECT_EQ(refusal_of(40, 60), "");
  EXPECT_EQ(refusal_of(40, 61), kContextLength);
  EXPECT_EQ(refusal_of(99, 1), "");
  EXPECT_EQ(refusal_of(100, 1), kContextLength);
  EXPECT_EQ(refusal_of(1, 101), "max_tokens");
  EXPECT_EQ(refusal(request_of({3, 0})), "prompt");
  CanonicalRequest many = request_of({1, 1});
  many.choices = kMostChoices / 2;
  EXPECT_EQ(refusal(many), "");
  ++many.choices;
  EXPECT_EQ(refusal(many), "n");
}

TEST(Fit, RefusesASamplerThatCannotBe) {
  CanonicalRequest asked = request_of({3});
  asked.sampler.top_p = -1;
  EXPECT_FALSE(fit(asked, kRoom));
}

TEST(Fit, CutsTextsWhereThatIsWantedAndKeepsTheirEnd) {
  const std::vector<Token> end = {7, 8};
  vectors::VectorRequest asked;
  asked.work.texts = {std::vector<Token>(3, 1), std::vector<Token>(101, 1)};
  const auto refused = fit(asked, kRoom, end);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().context, kContextLength);
  asked.too_long = vectors::TooLong::kCut;
  ASSERT_TRUE(fit(asked, kRoom, end));
  EXPECT_EQ(asked.work.texts[0], std::vector<Token>(3, 1));
  std::vector<Token> cut(100, 1);
  cut[98] = 7;
  cut[99] = 8;
  EXPECT_EQ(asked.work.texts[1], cut);
  asked.work.texts.emplace_back();
  EXPECT_FALSE(fit(asked, kRoom, end));
}

}  // namespace
}  // namespace baton::serve
