#include "text/byte_language.h"

#include <gtest/gtest.h>

#include <format>

namespace baton::text {
namespace {

using Node = ByteLanguage::Node;

bool matches(ByteLanguage& language, Node start, std::string_view text) {
  Node state = start;
  for (const char byte : text) state = language.next(state, static_cast<std::uint8_t>(byte));
  return state != ByteLanguage::kNothing && language.accepts(state);
}

Node closed(ByteLanguage& language, Node start) {
  EXPECT_TRUE(language.close(start));
  return start;
}

TEST(ByteLanguage, FollowsEveryOperation) {
  ByteLanguage language;
  const Node digit = language.bytes(byte_range('0', '9'));
  const Node start = closed(language, language.sequence({language.literal("a"), language.repeat(digit, 2, 3),
                                                         language.optional(language.byte('!'))}));
  for (const std::string_view text : {"a12", "a123", "a12!", "a999!"}) EXPECT_TRUE(matches(language, start, text));
  for (const std::string_view text : {"", "a", "a1", "a1234", "a12!!", "b12"}) {
    EXPECT_FALSE(matches(language, start, text)) << text;
  }
  EXPECT_EQ(language.shortest(start), 3U);
}

TEST(ByteLanguage, OneOfManyIsExactlyThose) {
  ByteLanguage language;
  std::vector<std::string> names;
  for (int i = 0; i < 300; ++i) names.push_back(std::format("name{}", i * 7));
  names.emplace_back("name");
  const Node start = closed(language, language.one_of(names));
  for (const std::string& name : names) EXPECT_TRUE(matches(language, start, name));
  EXPECT_FALSE(matches(language, start, "name1"));
  EXPECT_FALSE(matches(language, start, "nam"));
  EXPECT_EQ(language.shortest(start), 4U);
}

TEST(ByteLanguage, RulesNestWithoutBound) {
  ByteLanguage language;
  const Node value = language.new_rule();
  language.define(
      value, language.either({language.byte('x'), language.sequence({language.byte('['), value, language.byte(']')})}));
  closed(language, value);
  const std::string open(5000, '[');
  const std::string shut(5000, ']');
  EXPECT_TRUE(matches(language, value, open + "x" + shut));
  EXPECT_FALSE(matches(language, value, open + "x" + shut + "]"));
  EXPECT_FALSE(matches(language, value, open + "x" + shut.substr(1)));
}

TEST(ByteLanguage, FindsAMarkWhereverItBegins) {
  ByteLanguage language;
  const Node start =
      closed(language,
             language.either({language.without("aab"), language.sequence(language.until("aab"), language.byte('!'))}));
  for (const std::string_view text : {"", "aa", "xaaxab", "aaab!", "aab!", "no aaaab!"}) {
    EXPECT_TRUE(matches(language, start, text)) << text;
  }
  for (const std::string_view text : {"aab", "xaaab", "aab!!", "aabaab!"}) EXPECT_FALSE(matches(language, start, text));
}

TEST(ByteLanguage, MeetsItsStatesAgain) {
  ByteLanguage language;
  const Node start = closed(language, language.repeat(language.sequence(language.byte('a'), language.byte('b')), 0,
                                                      ByteLanguage::kUnbounded));
  EXPECT_EQ(language.next(language.next(start, 'a'), 'b'), start);
}

TEST(ByteLanguage, RefusesWhatNoTextCanEnd) {
  ByteLanguage language;
  const Node endless = language.new_rule();
  language.define(endless, language.sequence(language.byte('('), endless));
  EXPECT_FALSE(language.close(endless));
  // Where there is another way, the endless one is no choice at all.
  ByteLanguage other;
  const Node rule = other.new_rule();
  other.define(rule, other.sequence(other.byte('('), rule));
  const Node start = closed(other, other.either({other.byte('x'), rule}));
  EXPECT_TRUE(matches(other, start, "x"));
  EXPECT_EQ(other.next(start, '('), ByteLanguage::kNothing);
}

TEST(ByteLanguage, RefusesARuleThatCallsItselfAtOnce) {
  ByteLanguage language;
  const Node rule = language.new_rule();
  language.define(
      rule, language.either({language.byte('x'), language.sequence(language.optional(language.byte(' ')), rule)}));
  const auto refused = language.close(rule);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST(ByteLanguage, GivesUpWhereTheStatesAreTooMany) {
  ByteLanguage language;
  const Node a = language.byte('a');
  // Ambiguous on purpose: after n bytes there are about n squared ways to have come there.
  const Node inner = language.repeat(a, 0, 5000);
  const Node start = closed(language, language.repeat(language.sequence(inner, language.optional(a)), 0, 5000));
  Node state = start;
  for (int i = 0; i < 5000 && !language.exhausted(); ++i) state = language.next(state, 'a');
  EXPECT_TRUE(language.exhausted());
  EXPECT_EQ(language.next(start, 'a'), ByteLanguage::kNothing);
}

}  // namespace
}  // namespace baton::text
