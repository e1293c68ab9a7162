#include "node/speculator.h"

#include <gtest/gtest.h>

namespace baton::node {
namespace {

using Tokens = std::vector<Token>;

Tokens draft_of(Speculator& speculator, std::uint32_t most) {
  const auto draft = speculator.draft(most);
  return {draft.begin(), draft.end()};
}

// The text goes on with `next` from wherever it is; every pass costs the same. Returns how many passes it took.
int follow(Speculator& speculator, const Tokens& next) {
  int passes = 0;
  for (std::size_t at = 0; at < next.size(); ++passes) {
    const auto left = static_cast<std::uint32_t>(next.size() - at);
    const Tokens draft = left > 1 ? draft_of(speculator, left - 1) : Tokens();
    std::uint32_t made = 0;
    bool right = true;
    while (right && at < next.size()) {
      right = made < draft.size() && draft[made] == next[at];
      speculator.push(next[at++]);
      ++made;
    }
    speculator.passed(made, 0.01);
  }
  return passes;
}

TEST(Speculator, MakesSeveralTokensAPassOfATextThatRepeatsItsPrompt) {
  Tokens prompt;
  for (Token token = 0; token < 100; ++token) prompt.push_back(token * 17 % 101);
  Speculator speculator(prompt);
  EXPECT_LT(follow(speculator, prompt), 20);
  const SpeculationReport& report = speculator.report();
  EXPECT_GT(report.right_tokens, 80u);
  EXPECT_GE(report.guessed_tokens, report.right_tokens);
  EXPECT_EQ(report.how, "lookup");
}

TEST(Speculator, ChecksNothingInATextWithoutRepetition) {
  Speculator speculator(Tokens{1, 2, 3});
  Tokens text;
  for (Token token = 10; token < 200; ++token) text.push_back(token);
  EXPECT_EQ(follow(speculator, text), 190);
  EXPECT_EQ(speculator.report().checks, 0u);
}

TEST(Speculator, DraftsNoMoreThanItIsAskedFor) {
  Speculator speculator(Tokens(50, 7));
  for (int step = 0; step < 20; ++step) {
    const Tokens draft = draft_of(speculator, 3);
    EXPECT_LE(draft.size(), 3u);
    for (std::size_t token = 0; token <= draft.size(); ++token) speculator.push(7);
    speculator.passed(static_cast<std::uint32_t>(draft.size() + 1), 0.01);
  }
  EXPECT_EQ(draft_of(speculator, 3).size(), 3u);
}

TEST(Speculation, NamesItsChoices) {
  for (const auto choice : {Speculation::kAuto, Speculation::kOff, Speculation::kLookup}) {
    EXPECT_EQ(parse_speculation(speculation_name(choice)), choice);
  }
  EXPECT_FALSE(parse_speculation("always"));
}

}  // namespace
}  // namespace baton::node
