#include "node/speculator.h"

#include <gtest/gtest.h>

#include "node/lookup_proposer.h"

namespace baton::node {
namespace {

using Tokens = std::vector<Token>;

Tokens draft_of(Speculator& speculator, std::uint32_t most) {
  Tokens tokens;
  speculator.draft(most, [&](std::span<const Token> draft) { tokens.assign(draft.begin(), draft.end()); });
  return tokens;
}

Speculator by_lookup(const Tokens& prompt) { return Speculator(std::make_unique<LookupProposer>(prompt)); }

// Knows the text, and guesses a share of it wrong; each guess costs a share of a pass.
class Prophet : public Proposer {
 public:
  Prophet(Tokens text, std::uint32_t one_wrong_in, double seconds)
      : text_(std::move(text)), one_wrong_in_(one_wrong_in), seconds_(seconds) {}
  std::string_view name() const override { return "draft"; }
  Cost cost() const override { return Cost::kTime; }
  void push(Token) override { ++at_; }
  void propose(std::uint32_t most, Done done) override {
    Guess guess;
    for (std::uint32_t index = at_; index < at_ + most && index < text_.size(); ++index) {
      guess.tokens.push_back(++made_ % one_wrong_in_ == 0 ? -1 : text_[index]);
      guess.seconds += seconds_;
    }
    done(std::move(guess));
  }

 private:
  Tokens text_;
  std::uint32_t one_wrong_in_;
  double seconds_;
  std::uint32_t at_ = 0;
  std::uint32_t made_ = 0;
};

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
  Speculator speculator = by_lookup(prompt);
  EXPECT_LT(follow(speculator, prompt), 20);
  const SpeculationReport& report = speculator.report();
  EXPECT_GT(report.right_tokens, 80u);
  EXPECT_GE(report.guessed_tokens, report.right_tokens);
  EXPECT_EQ(report.how, "lookup");
}

TEST(Speculator, ChecksNothingInATextWithoutRepetition) {
  Speculator speculator = by_lookup({1, 2, 3});
  Tokens text;
  for (Token token = 10; token < 200; ++token) text.push_back(token);
  EXPECT_EQ(follow(speculator, text), 190);
  EXPECT_EQ(speculator.report().checks, 0u);
}

TEST(Speculator, DraftsNoMoreThanItIsAskedFor) {
  Speculator speculator = by_lookup(Tokens(50, 7));
  for (int step = 0; step < 20; ++step) {
    const Tokens draft = draft_of(speculator, 3);
    EXPECT_LE(draft.size(), 3u);
    for (std::size_t token = 0; token <= draft.size(); ++token) speculator.push(7);
    speculator.passed(static_cast<std::uint32_t>(draft.size() + 1), 0.01);
  }
  EXPECT_EQ(draft_of(speculator, 3).size(), 3u);
}

Tokens some_text() {
  Tokens text;
  for (Token token = 0; token < 400; ++token) text.push_back(token % 97);
  return text;
}

TEST(Speculator, LetsAGoodAndCheapDraftGuessFar) {
  Speculator speculator(std::make_unique<Prophet>(some_text(), 20, 0.0005));
  EXPECT_LT(follow(speculator, some_text()), 80);
  EXPECT_EQ(speculator.report().how, "draft");
  EXPECT_GT(speculator.report().right_tokens, 300u);
  EXPECT_GT(speculator.report().guessing_s, 0.15);
}

TEST(Speculator, SoonLeavesADraftThatIsWrongOrCostsMoreThanItGains) {
  Speculator wrong(std::make_unique<Prophet>(some_text(), 1, 0.0005));
  follow(wrong, some_text());
  EXPECT_LE(wrong.report().guessed_tokens, 60u) << "of 400 steps, at a twentieth of a step each";
  Speculator slow(std::make_unique<Prophet>(some_text(), 1000, 0.02));
  follow(slow, some_text());
  EXPECT_LT(slow.report().guessed_tokens, 30u);
}

TEST(Speculator, GuessesNoMoreWhereItsProposerFails) {
  class Broken : public Proposer {
   public:
    std::string_view name() const override { return "draft"; }
    Cost cost() const override { return Cost::kTime; }
    void push(Token) override {}
    void propose(std::uint32_t, Done done) override {
      done(fail(ErrorCode::kInternal, "the device is gone"));
      EXPECT_EQ(++asked, 1);
    }
    int asked = 0;
  };
  Speculator speculator(std::make_unique<Broken>());
  EXPECT_EQ(follow(speculator, some_text()), 400);
  EXPECT_EQ(speculator.report().why, "the device is gone");
  EXPECT_EQ(speculator.report().checks, 0u);
}

TEST(Speculation, NamesItsChoices) {
  for (const auto choice : {Speculation::kAuto, Speculation::kOff, Speculation::kLookup, Speculation::kDraft}) {
    EXPECT_EQ(parse_speculation(speculation_name(choice)), choice);
  }
  EXPECT_FALSE(parse_speculation("always"));
}

}  // namespace
}  // namespace baton::node
