#include "serve/json.h"

#include <gtest/gtest.h>

#include <cmath>

namespace baton::serve {
namespace {

Json parsed(std::string_view text) {
  auto value = parse_json(text);
  EXPECT_TRUE(value) << value.error().to_string();
  return value.value_or(Json());
}

TEST(Json, RefusesWhatIsNone) {
  for (const char* text : {"", "{", "{\"a\":}", "nonsense", "{\"a\":1,}", "[1 2]", "{} {}", "\"\\x\""}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value) << text;
    EXPECT_EQ(value.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(parse_json("\"\xFF\""));
  EXPECT_FALSE(parse_json(std::string(100'000, '[')));
}

TEST(Json, SaysWhereATextStopsBeingJson) {
  EXPECT_TRUE(parse_json(R"({"a":[1,2,}})").error().message.ends_with("byte 10"));
  EXPECT_TRUE(parse_json(R"({"a":1} x)").error().message.ends_with("byte 8"));
}

TEST(Json, KeepsWholeNumbersWhole) {
  EXPECT_EQ(parsed("9007199254740993").get<std::int64_t>(), 9007199254740993);
  EXPECT_EQ(to_json(parsed(R"({"b":1,"a":[true,null,"x"]})")), R"({"b":1,"a":[true,null,"x"]})");
}

TEST(Fields, SayWhichMemberIsWrong) {
  const Json json = parsed(R"({"count":"many","share":2.5,"half":1.5,"list":[1],"deep":{"x":true}})");
  Fields fields = Fields::of(json, "options").value();
  const Error not_a_number = fields.integer("count", 0, 5).error();
  EXPECT_EQ(not_a_number.context, "options.count");
  EXPECT_EQ(not_a_number.message, "'options.count' must be a whole number, not a string");
  EXPECT_EQ(fields.number("share", 0, 2).error().context, "options.share");
  EXPECT_FALSE(fields.integer("half", 0, 5));
  EXPECT_FALSE(fields.texts("list", 4));
  EXPECT_FALSE(fields.flag("deep"));
  EXPECT_FALSE(fields.required_text("absent"));
  EXPECT_EQ(fields.number("absent", 0, 1).value(), std::nullopt);
}

TEST(Fields, RefuseByNameWhatNobodyTook) {
  const Json json = parsed(R"({"known":"x","unknown":1,"nothing":null})");
  Fields fields = Fields::of(json).value();
  EXPECT_EQ(fields.text("known").value(), "x");
  const auto refused = fields.refuse_rest();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(refused.error().context, "unknown");
  fields.allow({"unknown"});
  EXPECT_TRUE(fields.refuse_rest());
}

TEST(Fields, TakeRealNumbersThatAreWhole) {
  const Json json = parsed(R"({"n":64.0,"seed":9223372036854775807})");
  Fields fields = Fields::of(json).value();
  EXPECT_EQ(fields.integer("n", 0, 100).value(), 64);
  EXPECT_EQ(fields.integer("seed", INT64_MIN, INT64_MAX).value(), INT64_MAX);
}

TEST(JsonObject, EscapesWhatItIsGiven) {
  const std::string text = JsonObject().text("a\"b", "line\n\x01\"\\ \xC3\xA9 \xFF").number("x", 0.5).null("n").str();
  EXPECT_EQ(text, "{\"a\\\"b\":\"line\\n\\u0001\\\"\\\\ \xC3\xA9 \xEF\xBF\xBD\",\"x\":0.5,\"n\":null}");
  EXPECT_TRUE(parse_json(text));
  EXPECT_EQ(json_number(std::nan("")), "null");
}

}  // namespace
}  // namespace baton::serve
