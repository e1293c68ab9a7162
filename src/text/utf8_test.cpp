#include "text/utf8.h"

#include <gtest/gtest.h>

#include <vector>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

std::string decode(const std::vector<std::string>& parts) {
  Utf8Decoder decoder;
  std::string out;
  for (const std::string& part : parts) decoder.push(part, out);
  decoder.finish(out);
  return out;
}

TEST(Utf8, EveryCodePointSurvivesThereAndBack) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string character;
    append_utf8(code_point, character);
    ASSERT_EQ(valid_character_length(character), character.size()) << static_cast<std::uint32_t>(code_point);
    ASSERT_EQ(decode_character(character), code_point);
    ASSERT_EQ(decode({character}), character);
  }
}

TEST(Utf8, WhatIsNoCharacterIsRefused) {
  for (const std::string_view bad :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82",
        "\xF0\x9F\x98", "\xC3\x41"}) {
    EXPECT_EQ(valid_character_length(bad), 0U) << bad.size();
  }
  EXPECT_EQ(valid_character_length(""), 0U);
}

TEST(Utf8, TheValidPrefixEndsAtTheFirstBadByte) {
  EXPECT_EQ(valid_prefix_length("aé日"), 6U);
  EXPECT_EQ(valid_prefix_length("aé\xE6\x97"), 3U);
  EXPECT_EQ(valid_prefix_length("\xFFx"), 0U);
}

TEST(Utf8Decoder, EachMaximalPartBecomesOneReplacement) {
  const std::string r(kReplacementCharacter);
  // The example of the Unicode standard, table 3-11.
  EXPECT_EQ(decode({"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"}), r + r + r + r + "A");
  EXPECT_EQ(decode({"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"}), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(decode({"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"}), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(decode({"\xE2\x82"}), r);
}

TEST(Utf8Decoder, SaysThatBytesAreBadAsSoonAsThatIsCertain) {
  Utf8Decoder decoder;
  std::string out;
  decoder.push("\xE0", out);
  EXPECT_EQ(out, "");
  EXPECT_TRUE(decoder.waiting());
  decoder.push("\x80", out);
  EXPECT_EQ(out, std::string(kReplacementCharacter) + std::string(kReplacementCharacter));
  EXPECT_FALSE(decoder.waiting());
}

TEST(Utf8Decoder, WhereTheInputIsCutMakesNoDifference) {
  ByteSource source(1);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = source.text(6);
    const std::string whole = decode({text});
    EXPECT_EQ(valid_prefix_length(whole), whole.size());
    std::vector<std::string> bytes;
    for (const char c : text) bytes.emplace_back(1, c);
    ASSERT_EQ(decode(bytes), whole);
    for (std::size_t cut = 0; cut <= text.size(); ++cut)
      ASSERT_EQ(decode({text.substr(0, cut), text.substr(cut)}), whole);
  }
}

}  // namespace
}  // namespace baton::text
