#include "serve/json_schema.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

class Schema {
 public:
  explicit Schema(const std::string& text) {
    JsonLanguage json(language_);
    const auto values = json.values(parse_json(text).value(), "schema");
    if (!values) {
      error_ = values.error();
      return;
    }
    start_ = *values;
    if (const auto closed = language_.close(start_); !closed) error_ = closed.error();
  }
  bool writes(std::string_view text) {
    EXPECT_EQ(error_.message, "");
    text::ByteLanguage::Node state = start_;
    for (const char byte : text) state = language_.next(state, static_cast<std::uint8_t>(byte));
    return state != text::ByteLanguage::kNothing && language_.accepts(state);
  }
  const Error& error() const { return error_; }

 private:
  text::ByteLanguage language_;
  text::ByteLanguage::Node start_ = text::ByteLanguage::kNothing;
  Error error_;
};

void expect(const std::string& schema, std::initializer_list<std::string_view> good,
            std::initializer_list<std::string_view> bad) {
  Schema compiled(schema);
  for (const std::string_view text : good) EXPECT_TRUE(compiled.writes(text)) << schema << ": " << text;
  for (const std::string_view text : bad) EXPECT_FALSE(compiled.writes(text)) << schema << ": " << text;
}

TEST(JsonSchema, WritesEveryType) {
  expect(R"({"type":"string"})", {R"("")", R"("a\n\u00e9\ud83d\ude00")", "\"\xF0\x9F\x98\x80\""},
         {R"("\ud83d")", R"("\ude00")", "\"\xFF\"", "\"\xED\xA0\x80\"", "\"\n\"", "\"", "a", R"("\x")"});
  expect(R"({"type":"integer"})", {"0", "-7", "123456789012345"}, {"01", "1.0", "1e3", "-", "+1", "1234567890123456"});
  expect(R"({"type":"number"})", {"0", "-1.5", "1e10", "2.5E-3"}, {"1.", ".5", "1e", "01.5", "1e999"});
  expect(R"({"type":["boolean","null"]})", {"true", "false", "null"}, {"True", "0", "nul"});
  expect(R"({})", {"[1, {\"a\": [true]}]", "{}", "{ }", "\"x\"", "{\n    \"a\": 1,\n    \"b\": 2\n}"},
         {"[1,]", "{a:1}", "1 2"});
}

TEST(JsonSchema, WritesMembersInTheirOrder) {
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},"c":{"type":"boolean"}},)"
      R"("required":["b"],"additionalProperties":false})";
  expect(schema, {R"({"a":1,"b":null,"c":true})", R"({"b":null})", R"({"b":null, "c":false})", R"({"a":1, "b":null})"},
         {"{}", R"({"a":1})", R"({"b":null,"a":1})", R"({"b":null,})", R"({,"b":null})", R"({"b":null,"d":1})"});
  expect(R"({"type":"object","properties":{}})", {"{}"}, {R"({"a":1})"});
  expect(R"({"type":"object","required":["x"]})", {R"({"x":[1]})", R"({"x":1,"y":2})"}, {"{}", R"({"y":2})"});
}

TEST(JsonSchema, WritesOtherMembersOnlyUnderOtherNames) {
  const std::string schema = R"({"type":"object","properties":{"ab":{"type":"integer"},"é":{"type":"null"}},)"
                             R"("additionalProperties":{"type":"boolean"}})";
  expect(schema, {R"({"ab":1,"x":true})", R"({"a":true,"abc":false,"":true})", R"({"ж":true})", R"({"ab":1,"é":null})"},
         {R"({"ab":true})", R"({"é":true})", R"({"a\u0062":true})", R"({"x":1})"});
}

TEST(JsonSchema, CountsItemsAndCharacters) {
  expect(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})", {"[1]", "[1, 2,3]"},
         {"[]", "[1,2,3,4]", "[true]", "[1 2]"});
  expect(R"({"type":"array","maxItems":0})", {"[]", "[ ]"}, {"[1]"});
  expect(
      R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":{"type":"integer"},"maxItems":3})",
      {"[null, true]", "[null,true,1]"}, {"[null]", "[null,true,1,2]", "[true,null]"});
  expect(R"({"type":"string","minLength":2,"maxLength":3})", {R"("ab")", R"("éé")", R"("\n\u00e9x")"},
         {R"("a")", R"("abcd")"});
}

TEST(JsonSchema, KeepsNumbersWithinTheirBounds) {
  expect(R"({"type":"integer","minimum":-12,"maximum":305})", {"-12", "-1", "0", "9", "99", "299", "305"},
         {"-13", "306", "1000", "-0"});
  expect(R"({"type":"integer","exclusiveMinimum":7,"exclusiveMaximum":9})", {"8"}, {"7", "9"});
  expect(R"({"type":"integer","minimum":1000})", {"1000", "1234", "99999"}, {"999", "1"});
  expect(R"({"type":"number","minimum":0,"maximum":1})", {"0", "1", "0.5", "0.999"}, {"1.5", "-0.5", "1.0001", "2"});
  expect(R"({"type":"number","minimum":-2,"exclusiveMaximum":2})", {"-2", "-1.5", "1.999", "-0.1"},
         {"2", "-2.1", "2.0", "-3"});
  EXPECT_EQ(Schema(R"({"type":"number","minimum":0.2,"maximum":0.8})").error().code, ErrorCode::kUnsupported);
}

TEST(JsonSchema, WritesNamedValuesAsTheyAre) {
  expect(R"({"enum":["red","green",3,null,[1,{"a":"b"}]]})", {R"("red")", "3", "null", R"([1,{"a":"b"}])"},
         {R"("blue")", "red", "[1]"});
  expect(R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"});
  expect(R"({"const":{"x":null}})", {R"({"x":null})"}, {"{}"});
  expect(R"({"const":null})", {"null"}, {"0"});
  expect(R"({"const":"a","enum":["a","b"]})", {R"("a")"}, {R"("b")"});
  // Some clients write every keyword that they know.
  expect(R"({"type":"integer","enum":null,"items":null,"description":null})", {"7"}, {"null"});
}

TEST(JsonSchema, ChoosesAmongSchemas) {
  expect(R"({"anyOf":[{"type":"integer"},{"type":"string"}]})", {"1", R"("x")"}, {"true"});
  expect(R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},)"
         R"({"type":"object","properties":{"k":{"const":"b"},"n":{"type":"integer"}},"required":["k"]}]})",
         {R"({"k":"a"})", R"({"k":"b","n":1})"}, {R"({"k":"a","n":1})", "{}"});
  EXPECT_EQ(Schema(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})").error().context, "schema.oneOf");
  EXPECT_EQ(
      Schema(R"({"oneOf":[{"properties":{"k":{"const":"a"}},"required":["k"]},{"type":"object"}]})").error().context,
      "schema.oneOf");
  expect(R"({"allOf":[{"type":"null"}]})", {"null"}, {"1"});
}

TEST(JsonSchema, FollowsReferencesAlsoToItself) {
  const std::string tree = R"({"$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer"},"next":)"
                           R"({"anyOf":[{"$ref":"#/$defs/tree"},{"type":"null"}]}},"required":["v","next"]}},)"
                           R"("$ref":"#/$defs/tree"})";
  expect(tree, {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":{"v":3,"next":null}}})"},
         {R"({"v":1})", R"({"v":1,"next":{"v":2}})"});
  EXPECT_EQ(Schema(R"({"$ref":"#"})").error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(Schema(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})").error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(Schema(R"({"$ref":"#/$defs/none"})").error().context, "schema.$ref");
  EXPECT_EQ(Schema(R"({"$ref":"https://example.org/a"})").error().context, "schema.$ref");
  // Only an endless value would do.
  EXPECT_EQ(Schema(R"({"type":"object","properties":{"n":{"$ref":"#"}},"required":["n"]})").error().code,
            ErrorCode::kUnsupported);
}

TEST(JsonSchema, WritesPatternsAndFormats) {
  expect(R"({"type":"string","pattern":"^[a-c]{2,3}\\d+(x|yz)?$"})", {R"("ab1")", R"("abc12yz")"},
         {R"("a1")", R"("abcd1")", R"("ab1y")", R"("ab")"});
  expect(R"({"type":"string","pattern":"b+"})",
         {R"("b")", R"("abbc")",
          "\"\xC3\xA9"
          "b\""},
         {R"("ac")", R"("")"});
  expect(R"({"type":"string","pattern":"^[^a]\\\"\\n.$"})", {R"("b\"\né")"}, {R"("a\"\nx")", "\"b\"\nx\""});
  expect(R"({"type":"string","format":"date"})", {R"("2024-02-28")"}, {R"("2024-13-01")", R"("2024-1-1")"});
  expect(R"({"type":"string","format":"ipv4"})", {R"("255.0.10.1")"}, {R"("256.0.0.1")", R"("1.2.3")"});
  for (const std::string pattern : {"(?=a)b", "\\\\bword", "a(b", "[z-a]", "(a)\\\\1", "a**", "a^b"}) {
    EXPECT_EQ(Schema(R"({"type":"string","pattern":")" + pattern + "\"}").error().context, "schema.pattern") << pattern;
  }
}

TEST(JsonSchema, RefusesByNameWhatItDoesNotKnow) {
  const auto refused = [](const std::string& text) { return Schema(text).error().context; };
  EXPECT_EQ(refused(R"({"type":"object","properties":{"a":{"type":"array","items":{"not":{}}}}})"),
            "schema.properties.a.items.not");
  EXPECT_EQ(refused(R"({"type":"object","patternProperties":{}})"), "schema.patternProperties");
  EXPECT_EQ(refused(R"({"type":"array","uniqueItems":true})"), "schema.uniqueItems");
  EXPECT_EQ(refused(R"({"type":"number","multipleOf":0.1})"), "schema.multipleOf");
  EXPECT_EQ(refused(R"({"type":"string","format":"regex"})"), "schema.format");
  EXPECT_EQ(refused(R"({"type":"text"})"), "schema.type");
  EXPECT_EQ(refused(R"({"type":"string","minLength":-1})"), "schema.minLength");
  EXPECT_EQ(refused(R"({"if":{},"then":{}})"), "schema.if");
  EXPECT_EQ(refused(R"({"type":"object","properties":{"a":3}})"), "schema.properties.a");
}

TEST(JsonSchema, BoundsWhatStrangersAskFor) {
  std::string deep = "{}";
  for (int i = 0; i < 60; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  EXPECT_EQ(Schema(deep).error().code, ErrorCode::kUnsupported);
  const std::string large = R"({"enum":[")" + std::string(kMostSchemaBytes, 'x') + "\"]}";
  EXPECT_EQ(Schema(large).error().context, "schema");
}

}  // namespace
}  // namespace baton::serve
