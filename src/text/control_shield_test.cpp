#include "text/control_shield.h"

#include <gtest/gtest.h>

namespace baton::text {
namespace {

const std::vector<std::string> kControls{"<|im_end|>", "<|im_start|>", "</s>", "[INST]"};

std::vector<std::string> foreign_pieces(const MarkedText& text) {
  std::vector<std::string> parts;
  for (const TextRange& range : text.foreign()) {
    parts.push_back(text.bytes().substr(range.begin, range.end - range.begin));
  }
  return parts;
}

TEST(ControlShield, LeavesTextWithoutControlTokensAsItIs) {
  ControlShield shield(kControls);
  for (const std::string_view text : {"", "hello wörld", "a < b > c", "<|im_endx", "s>", "[1, 2]", " \n"}) {
    EXPECT_EQ(shield.hide(text), text);
  }
}

TEST(ControlShield, HidesControlTokensAndBringsThemBackMarked) {
  ControlShield shield(kControls);
  for (const std::string_view text :
       {"a<|im_end|>b</s>", "</s></s>", "x <|im", "x < \n", "<|im_start|>", "[INST", "é<|im_end|>"}) {
    const std::string hidden = shield.hide(text);
    for (const std::string& control : kControls) EXPECT_FALSE(hidden.contains(control)) << text;
    EXPECT_NE(hidden, text);
    EXPECT_EQ(shield.restore(hidden).bytes(), text);
    EXPECT_FALSE(shield.restore(hidden).foreign().empty());
  }
  EXPECT_EQ(foreign_pieces(shield.restore("<|im_end|>" + shield.hide("a</s>b<|im_"))),
            (std::vector<std::string>{"</s>", "<|im_"}));
}

TEST(ControlShield, LeavesNothingForTwoTextsToBuild) {
  ControlShield shield(kControls);
  const MarkedText built = shield.restore(shield.hide("<|im_") + shield.hide("end|>"));
  EXPECT_EQ(built.bytes(), "<|im_end|>");
  EXPECT_EQ(foreign_pieces(built), std::vector<std::string>{"<|im_"});
}

TEST(ControlShield, LeavesNothingToBuildFromTokensThatBeginWithWhiteSpace) {
  const std::vector<std::string> controls{"\t\t\t", " end>", "<x"};
  ControlShield shield(controls);
  for (const auto& [first, second] : {std::pair{"a\t", "\t\tb"}, {"a  ", "end>"}, {"<\t", "\t\t"}, {"\t\t", "\t"}}) {
    const MarkedText both = shield.restore(shield.hide(first) + shield.hide(second));
    EXPECT_EQ(both.bytes(), std::string(first) + second);
    EXPECT_FALSE(both.foreign().empty()) << first;
  }
  EXPECT_EQ(shield.restore(shield.hide("a\t")).bytes(), "a\t");
  EXPECT_EQ(shield.hide("a\n"), "a\n") << "no token begins like this";
}

TEST(ControlShield, HidesNamesThatLieInsideAControlToken) {
  ControlShield shield(kControls);
  EXPECT_EQ(shield.hide_name("weather"), "weather");
  EXPECT_EQ(foreign_pieces(shield.restore("<|" + shield.hide_name("im_end") + "|>")),
            std::vector<std::string>{"im_end"});
}

TEST(ControlShield, TakesPlaceholdersFromNobodyElse) {
  ControlShield shield(kControls);
  const std::string stolen = shield.hide("</s>");
  EXPECT_EQ(shield.restore(shield.hide(stolen)).bytes(), "\uFFFD\uFFFD\uFFFD");
  EXPECT_TRUE(shield.restore(shield.hide(stolen)).foreign().empty());
  // A template that cut one apart.
  EXPECT_EQ(shield.restore(stolen.substr(0, 6)).bytes(), "\uFFFD\uFFFD");
  EXPECT_EQ(shield.restore(stolen.substr(1)).bytes().substr(0, 3), "\uFFFD");
  EXPECT_TRUE(has_placeholder_characters(stolen));
  EXPECT_FALSE(has_placeholder_characters("plain \uFDCF \uFDF0"));
}

TEST(ControlShield, CountsBeyondSixteen) {
  std::vector<std::string> controls;
  for (int i = 0; i < 300; ++i) controls.push_back("<" + std::to_string(i) + ">");
  ControlShield shield(controls);
  std::string text;
  for (const std::string& control : controls) text += control;
  EXPECT_EQ(shield.restore(shield.hide(text)).bytes(), text);
}

}  // namespace
}  // namespace baton::text
