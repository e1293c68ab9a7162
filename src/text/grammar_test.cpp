#include "text/grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <string>
#include <vector>

#include "text/constrained_text.h"
#include "text/test_vocabularies.h"
#include "text/utf8.h"

namespace baton::text {
namespace {

// The example of the notation's documentation, shortened: sums and products in brackets.
constexpr std::string_view kArithmetic = R"GBNF(
# an expression on each line
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num
        | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]{0,2}
)GBNF";

class Walk {
 public:
  explicit Walk(std::string_view grammar) {
    auto start = compile_grammar(grammar, language_);
    EXPECT_TRUE(start) << (start ? "" : start.error().message);
    start_ = start.value_or(ByteLanguage::kNothing);
    const auto closed = language_.close(start_);
    EXPECT_TRUE(closed) << (closed ? "" : closed.error().message);
  }
  bool accepts(std::string_view text) {
    ByteLanguage::Node state = start_;
    for (const char byte : text) state = language_.next(state, static_cast<std::uint8_t>(byte));
    return state != ByteLanguage::kNothing && language_.accepts(state);
  }
  void expect(const std::vector<std::string>& good, const std::vector<std::string>& bad) {
    for (const std::string& text : good) EXPECT_TRUE(accepts(text)) << text;
    for (const std::string& text : bad) EXPECT_FALSE(accepts(text)) << text;
    EXPECT_FALSE(language_.exhausted());
  }

 private:
  ByteLanguage language_;
  ByteLanguage::Node start_ = ByteLanguage::kNothing;
};

std::string refused(std::string_view grammar) {
  ByteLanguage language;
  const auto start = compile_grammar(grammar, language);
  EXPECT_FALSE(start) << grammar;
  if (start) return "";
  EXPECT_EQ(start.error().code, ErrorCode::kInvalidArgument);
  return start.error().message;
}

TEST(Grammar, OfArithmeticTakesWhatItDescribes) {
  Walk walk(kArithmetic);
  walk.expect({"1=1\n", "a +2= b\n", "(1+(2*x_1))=7\n3= 4\n"}, {"", "1=1", "1+=1\n", "(1=1\n", "A=1\n", "1==1\n"});
}

TEST(Grammar, NestsWithoutBound) {
  Walk walk("root ::= \"(\" root* \")\"");
  std::string deep = std::string(5000, '(') + std::string(5000, ')');
  walk.expect({"()", "(()())", deep}, {"", "(", "())", deep.substr(1)});
}

TEST(Grammar, KnowsItsNotation) {
  Walk(R"(root ::= "a\"\\\x41\u00e9\U0001F600" | "" | [\[\]\t]
# a comment, and a rule that nobody needs
other-rule_2 ::= "x" # to the end of the line
)")
      .expect({"a\"\\A\u00e9\U0001F600", "", "[", "]", "\t"}, {"a", "x", "\\"});
}

TEST(Grammar, CountsRepetitions) {
  Walk("root ::= \"a\"{2} \"b\"{1,} \"c\"{0,2} (\"d\" \"e\")? \"f\" * \"g\" +")
      .expect({"aabg", "aabbccdeffgg", "aabccg"}, {"abg", "aag", "aabcccg", "aabdg", "aab"});
}

TEST(Grammar, RepeatsWhatIsRepeatedAlready) {
  Walk("root ::= \"a\"{2}{1,2} \"b\"+? \"c\" * + ?").expect({"aa", "aaaabbccc", "aac"}, {"", "a", "aaa", "aaaaaa"});
}

TEST(Grammar, GoesOnInTheNextLineBehindAnOpenAlternative) {
  Walk("root ::=\n  \"a\" |\n  b\nb ::= \"b\"\n  \n  | c\nc ::= \"c\"").expect({"a", "b", "c"}, {"", "ab", "bc"});
  EXPECT_EQ(refused("root ::= \"a\"\n\"b\""), "line 2: a rule begins with its name, and '\"' stands here");
}

TEST(Grammar, TakesCharactersAndNotBytes) {
  Walk walk("root ::= [а-яé] [^a-z\\n] . [\\]\\-x]");
  walk.expect({"ж1жx", "é€\n]", "яA\xF0\x9F\x98\x80-"},
              {"a1xx", "жaxx", "ж\nxx", "ж1x", "\xD0", "ж1\xED\xA0\x80x", "ж1\xFFx"});
}

// Each character is in exactly one of a set and the rest, whatever their borders.
TEST(Grammar, DividesAllCharactersIntoASetAndTheRest) {
  for (const auto& [first, last] : std::vector<std::pair<std::string, std::string>>{{"\\x00", "\\x7f"},
                                                                                    {"\\x7f", "\\u0080"},
                                                                                    {"\\u07ff", "\\u0800"},
                                                                                    {"\\ud7ff", "\\ue000"},
                                                                                    {"\\uffff", "\\U00010000"},
                                                                                    {"\\U0010ffff", "\\U0010ffff"},
                                                                                    {"a", "\\U0001f600"}}) {
    Walk inside(std::format("root ::= [{}-{}]", first, last));
    Walk outside(std::format("root ::= [^{}-{}]", first, last));
    for (const char32_t character :
         {0x0,    0x60,   0x61,   0x7E,   0x7F,    0x80,    0x81,    0x7FE,   0x7FF,   0x800,    0xFFF,
          0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x1F600, 0x1F601, 0x3FFFF, 0x40000, 0x10FFFE, 0x10FFFF}) {
      std::string text;
      append_utf8(character, text);
      EXPECT_NE(inside.accepts(text), outside.accepts(text)) << first << " " << last << " " << std::hex << +character;
    }
  }
}

TEST(Grammar, NamesTheLineAndWhatIsWrong) {
  EXPECT_EQ(refused("x ::= \"a\""), "there is no rule 'root', which the whole text belongs to");
  EXPECT_EQ(refused("root ::= \"a\"\n  | b\n"), "line 2: there is no rule 'b'");
  EXPECT_EQ(refused("root ::= \"a\"\n\nroot ::= \"b\""), "line 3: the rule 'root' is in line 1 already");
  EXPECT_EQ(refused("root = \"a\""), "line 1: '::=' has to follow the name 'root', and '=' stands here");
  EXPECT_EQ(refused("# nothing\nroot ::= (\"a\"\n \"b\""),
            "line 3: the '(' of line 2 is not closed, and the grammar ends");
  EXPECT_EQ(refused("root ::= \"a\n"), "line 1: the text that begins with '\"' does not end");
  EXPECT_EQ(refused("root ::= [a"), "line 1: the set that begins with '[' does not end");
  EXPECT_EQ(refused("root ::= [z-a]"), "line 1: a set goes from a character to a later one");
  EXPECT_EQ(refused("root ::= []"), "line 1: no character is in the set");
  EXPECT_EQ(refused("root ::= \"\\q\""), "line 1: '\\' means nothing where 'q' stands here");
  EXPECT_EQ(refused("root ::= \"\\ud800\""), "line 1: U+D800 is no character");
  EXPECT_EQ(refused("root ::= \"a\"{3,2}"), "line 1: no text is repeated 3 times at least and 2 at most");
  EXPECT_EQ(refused("root ::= \"a\"{x}"), "line 1: a number is missing, and 'x' stands here");
  EXPECT_EQ(refused("root ::= \"a\" )"), "line 1: the rule 'root' cannot go on so: ')' stands here");
  EXPECT_EQ(refused("root ::= *"), "line 1: the rule 'root' cannot go on so: '*' stands here");
  EXPECT_TRUE(refused("root ::= <think>").starts_with("line 1: tokens cannot be named"));
  EXPECT_EQ(refused("root ::= \"a\xFF\""), "line 1: a byte begins no character of UTF-8");
}

TEST(Grammar, RefusesWhatBeginsWithItselfOrNeverEnds) {
  EXPECT_EQ(refused("root ::= root \"a\" | \"b\""),
            "line 1: the rule 'root' begins with itself (root, root): something has to come before");
  EXPECT_EQ(refused("root ::= \"x\" a\na ::= \"\" [0-9]? b\nb ::= (a \"x\")* \"y\""),
            "line 2: the rule 'a' begins with itself (a, b, a): something has to come before");
  EXPECT_EQ(refused("root ::= \"a\" | b\nb ::= \"(\" b \")\""), "line 2: no text ever ends what the rule 'b' begins");
  Walk("root ::= \"a\" root | \"b\"").expect({"b", "aab"}, {"a", "ba"});
}

// Without bounds this test would not end.
TEST(Grammar, CostsLittleHoweverHostile) {
  EXPECT_TRUE(refused(std::string(40'000, ' ')).contains("32768 are the most"));
  EXPECT_TRUE(refused("root ::= " + std::string(60, '(')).contains("in each other"));
  // As many levels as bytes would be more than a thread's stack.
  for (const char sign : {'+', '*', '?'}) {
    EXPECT_TRUE(refused("root ::= \"a\"" + std::string(32'700, sign)).contains("in each other")) << sign;
  }
  std::string counted = "root ::= \"a\"";
  for (int level = 0; level < 100; ++level) counted += "{1}";
  EXPECT_TRUE(refused(counted).contains("in each other"));
  EXPECT_TRUE(refused("root ::= \"a\"{1001}").contains("too many"));
  std::string rules = "root ::= \"a\"\n";
  for (int rule = 0; rule < 600; ++rule) rules += std::format("r{} ::= \"a\"\n", rule);
  EXPECT_TRUE(refused(rules).contains("more than 500 rules"));
  // A chain that each round settles by one rule, and sets that are all different.
  std::string chain = "root ::= r0\n";
  for (int rule = 0; rule < 400; ++rule) chain += std::format("r{} ::= [^{:c}] r{}\n", rule, 'a' + rule % 26, rule + 1);
  Walk(chain + "r400 ::= \"z\"").expect({}, {"z"});
  for (const std::string_view grammar :
       {"root ::= ((\"a\"{0,900}){0,900}){0,900} \"b\"", "root ::= (\"a\" | \"a\" root)* \"b\"",
        "root ::= (\"a\"? \"a\"?){0,900} \"b\"", "root ::= \"a\" root \"a\" root | \"b\""}) {
    ByteLanguage language;
    const auto start = compile_grammar(grammar, language);
    ASSERT_TRUE(start) << grammar;
    ASSERT_TRUE(language.close(*start)) << grammar;
    ByteLanguage::Node state = *start;
    for (int step = 0; step < 2000 && state != ByteLanguage::kNothing; ++step) {
      language.begin_work();
      state = language.next(state, 'a');
    }
  }
}

TEST(Grammar, HoldsEveryAnswer) {
  const Vocabulary vocabulary = Vocabulary::create(small_byte_pair()).value();
  const Token end = vocabulary.find("<|end|>").value();
  const auto trie = std::make_shared<TokenTrie>(vocabulary, std::span<const Token>());
  auto language = std::make_unique<ByteLanguage>();
  const auto start = compile_grammar(kArithmetic, *language).value();
  ASSERT_TRUE(language->close(start));
  const auto held = std::make_shared<TokenLanguage>(std::move(language), start, trie, std::vector<Token>{end});
  Walk walk(kArithmetic);
  ByteSource random(3);
  for (int answer = 0; answer < 40; ++answer) {
    ConstrainedText text(held);
    std::string written;
    for (std::uint32_t left = 60; left > 0; --left) {
      const auto allowed = text.allowed(left);
      ASSERT_TRUE(allowed) << allowed.error().message;
      std::vector<Token> choices;
      for (std::size_t token = 0; token < vocabulary.size(); ++token) {
        if (((*allowed)[token / 64] >> (token % 64) & 1) != 0) choices.push_back(static_cast<Token>(token));
      }
      ASSERT_FALSE(choices.empty()) << written;
      const Token token = choices[random.below(static_cast<std::uint32_t>(choices.size()))];
      if (token == end) break;
      text.push(token);
      written += vocabulary.token_bytes(token);
    }
    EXPECT_TRUE(walk.accepts(written)) << written;
  }
}

}  // namespace
}  // namespace baton::text
