#include "serve/thinking.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

ThinkingControl control(std::string_view source) {
  const auto made = text::ChatTemplate::create(source, {});
  EXPECT_TRUE(made) << made.error().to_string();
  return ThinkingControl(*made, read_answer_syntax(source));
}

std::string variable(const text::ChatRequest& chat, std::string_view name) {
  for (const auto& [known, value] : chat.variables) {
    if (known == name) return value;
  }
  return "";
}

constexpr std::string_view kSwitch =
    "{{ messages[0].content }}{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}";
constexpr std::string_view kOtherSwitch = "{{ messages[0].content }}{{ '<think>' if thinking else '</think>' }}";
constexpr std::string_view kAlways = "{{ messages[0].content }}<think>";
constexpr std::string_view kNever = "{{ messages[0].content }}";
constexpr std::string_view kAmount =
    "<|channel|><|message|>{{ messages[0].content }}{{ reasoning_effort if reasoning_effort else 'medium' }}";

TEST(Thinking, IsSwitchedAsTheTemplateHasIt) {
  for (const std::string_view source : {kSwitch, kOtherSwitch}) {
    text::ChatRequest off;
    ASSERT_TRUE(control(source).apply(ThinkingWish::kOff, "think", off));
    EXPECT_EQ(variable(off, "enable_thinking"), "false");
    EXPECT_EQ(variable(off, "thinking"), "false");
    text::ChatRequest much;
    ASSERT_TRUE(control(source).apply(ThinkingWish::kHigh, "think", much));
    EXPECT_EQ(variable(much, "enable_thinking"), "true");
    EXPECT_EQ(variable(much, "reasoning_effort"), "");
  }
}

TEST(Thinking, HasAnAmountWhereTheTemplateKnowsOne) {
  text::ChatRequest chat;
  ASSERT_TRUE(control(kAmount).apply(ThinkingWish::kLow, "think", chat));
  EXPECT_EQ(variable(chat, "reasoning_effort"), "\"low\"");
  EXPECT_EQ(variable(chat, "thinking"), "");
}

TEST(Thinking, IsRefusedByNameWhereNothingCanBeDone) {
  text::ChatRequest chat;
  for (const std::string_view source : {kAlways, kAmount}) {
    const auto refused = control(source).apply(ThinkingWish::kOff, "think", chat);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().context, "think");
    EXPECT_TRUE(control(source).apply(ThinkingWish::kOn, "think", chat));
  }
  EXPECT_EQ(control(kNever).apply(ThinkingWish::kOn, "think", chat).error().code, ErrorCode::kUnsupported);
  // It does not think as it is.
  EXPECT_TRUE(control(kNever).apply(ThinkingWish::kOff, "think", chat));
  EXPECT_TRUE(chat.variables.empty());
}

}  // namespace
}  // namespace baton::serve
