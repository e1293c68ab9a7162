// Conversations: whole requests whose prompts begin like earlier ones, on one node and over several.
#include <gtest/gtest.h>

#include "engine/test_model.h"
#include "node/test_cluster.h"

namespace baton::node {
namespace {

using test::kChunk;
using test::kLayers;
using test::kNewTokens;
using test::kPromptTokens;
using test::plan_text;

const std::string kAlone = plan_text("local:0-6", "local:0-6");
const std::string kPrefillElsewhere = plan_text("A:0-6", "local:0-6");
const std::string kShared = plan_text("A:0-4,local:4-6", "local:0-6");

class Prefixes : public test::Cluster {
 protected:
  NodeSpec keeping(const std::string& name) {
    NodeSpec spec{name};
    spec.kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded;
    return spec;
  }
  RequestOptions turn(std::string_view plan, std::vector<Token> prompt,
                      handoff::Determinism determinism = handoff::Determinism::kFast) const {
    RequestOptions options = request(plan);
    options.prompt = std::move(prompt);
    options.determinism = determinism;
    return options;
  }
  std::vector<Token> first_prompt() const { return request(kAlone).prompt; }
  static std::vector<Token> joined(std::vector<Token> tokens, const std::vector<Token>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
  }
  static std::vector<Token> question(std::uint32_t count) {
    std::vector<Token> tokens;
    for (std::uint32_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>(200 + (i * 29) % 90));
    return tokens;
  }
  // By a node that has computed nothing before.
  std::unique_ptr<Observer> reference(const RequestOptions& options) {
    if (reference_ == nullptr) reference_ = &add_node({"reference"});
    RequestOptions alone = options;
    alone.plan = plan::Plan::single(kLayers);
    return finish(*reference_, std::move(alone));
  }
  static const RequestReport& report_of(const std::unique_ptr<Observer>& observer) { return **observer->report; }

  Node* reference_ = nullptr;
};

TEST_F(Prefixes, TheSecondTurnComputesOnlyWhatIsNew) {
  Node& local = add_node(keeping("local"));
  const auto first = finish(local, turn(kAlone, first_prompt()));
  EXPECT_EQ(report_of(first).cached_tokens, 0U);
  const auto second_turn = turn(kAlone, joined(joined(first_prompt(), first->tokens), question(9)));
  std::vector<std::uint32_t> progress;
  Observer observer(*loop_);
  observer.after_prefilled = [&](std::uint32_t tokens) { progress.push_back(tokens); };
  const auto request = model_of(local).submit(second_turn, observer).value();
  wait_for(observer);
  // The last token of an answer is never computed.
  EXPECT_EQ(request->cached_tokens(), kPromptTokens + kNewTokens - 1);
  EXPECT_EQ(progress, std::vector<std::uint32_t>{kPromptTokens + kNewTokens + 9}) << "in one chunk";
  EXPECT_EQ(observer.tokens, reference(second_turn)->tokens);
}

TEST_F(Prefixes, AnAnswerThatWasChangedIsComputedFromWhereItParts) {
  Node& local = add_node(keeping("local"));
  const auto first = finish(local, turn(kAlone, first_prompt()));
  // As templates do that leave out an earlier answer's reasoning.
  const std::vector<Token> kept_end(first->tokens.begin() + 5, first->tokens.end());
  ASSERT_NE(kept_end.front(), first->tokens.front());
  const auto second_turn = turn(kAlone, joined(joined(first_prompt(), kept_end), question(9)));
  const auto second = finish(local, second_turn);
  EXPECT_EQ(report_of(second).cached_tokens, kPromptTokens);
  EXPECT_EQ(second->tokens, reference(second_turn)->tokens);
}

TEST_F(Prefixes, ADeterministicTurnHasTheBitsOfAFreshOne) {
  for (const std::string& plan : {kAlone, kPrefillElsewhere, kShared}) {
    nodes_.clear();
    peers_.clear();
    reference_ = nullptr;
    Node& local = add_node(keeping("local"));
    add_node(keeping("A"));
    constexpr auto kExactly = handoff::Determinism::kDeterministic;
    const auto first = finish(local, turn(plan, first_prompt(), kExactly));
    ASSERT_TRUE(*first->report) << plan << ": " << first->report->error().to_string();
    const auto second_turn = turn(plan, joined(joined(first_prompt(), first->tokens), question(9)), kExactly);
    const auto second = finish(local, second_turn);
    ASSERT_TRUE(*second->report) << plan << ": " << second->report->error().to_string();
    EXPECT_EQ(report_of(second).cached_tokens, kPromptTokens / kChunk * kChunk) << plan;
    EXPECT_TRUE(second->logits == reference(second_turn)->logits) << plan;
    EXPECT_TRUE(second->recoveries.empty());
  }
}

TEST_F(Prefixes, ANodeThatDoesAllGoesOnFromWhatItWroteItself) {
  const std::string elsewhere = plan_text("A:0-6", "A:0-6");
  for (const auto determinism : {handoff::Determinism::kFast, handoff::Determinism::kDeterministic}) {
    nodes_.clear();
    peers_.clear();
    reference_ = nullptr;
    Node& local = add_node(keeping("local"));
    add_node(keeping("A"));
    const auto first = finish(local, turn(elsewhere, first_prompt(), determinism));
    ASSERT_TRUE(*first->report) << first->report->error().to_string();
    EXPECT_EQ(report_of(first).cached_tokens, 0U);
    expect_settled();
    const auto all = joined(joined(first_prompt(), first->tokens), question(9));
    auto second_turn = turn(elsewhere, all, determinism);
    const auto second = finish(local, second_turn);
    ASSERT_TRUE(*second->report) << second->report->error().to_string();
    EXPECT_TRUE(second->recoveries.empty());
    // What was written in steps has not the bits of a prompt's chunks.
    const bool exactly = determinism == handoff::Determinism::kDeterministic;
    EXPECT_EQ(report_of(second).cached_tokens,
              (exactly ? kPromptTokens : kPromptTokens + kNewTokens - 1) / kChunk * kChunk);
    const auto fresh = reference(second_turn);
    EXPECT_EQ(second->tokens, fresh->tokens);
    EXPECT_TRUE(!exactly || second->logits == fresh->logits);
    // Another conversation finds nothing.
    EXPECT_EQ(report_of(finish(local, turn(elsewhere, question(70), determinism))).cached_tokens, 0U);
  }
}

TEST_F(Prefixes, ANodeThatWritesAloneKeepsWhatOthersReadForIt) {
  for (const std::string prefill : {"B:0-6", "local:0-6", "B:0-2,A:2-6", "local:0-2,B:2-4,A:4-6"}) {
    nodes_.clear();
    peers_.clear();
    reference_ = nullptr;
    Node& local = add_node(keeping("local"));
    add_node(keeping("A"));
    add_node(keeping("B"));
    const auto first = finish(local, turn(plan_text(prefill, "A:0-6"), first_prompt()));
    ASSERT_TRUE(*first->report) << first->report->error().to_string();
    expect_settled();
    const auto all = joined(joined(first_prompt(), first->tokens), question(9));
    auto second_turn = turn(plan_text("A:0-6", "A:0-6"), all);
    second_turn.kept_elsewhere = kPromptTokens + kNewTokens - 1;
    const auto second = finish(local, second_turn);
    ASSERT_TRUE(*second->report) << second->report->error().to_string();
    EXPECT_EQ(report_of(second).cached_tokens, (kPromptTokens + kNewTokens - 1) / kChunk * kChunk) << prefill;
    EXPECT_EQ(second->tokens, reference(second_turn)->tokens);
  }
}

TEST_F(Prefixes, WhatTheDecodingNodeHoldsIsNeitherComputedNorSentAgain) {
  for (const std::string& plan : {kPrefillElsewhere, kShared}) {
    nodes_.clear();
    peers_.clear();
    reference_ = nullptr;
    Node& local = add_node(keeping("local"));
    Node& prefiller = add_node(keeping("A"));
    const auto first = finish(local, turn(plan, first_prompt()));
    const auto second_turn = turn(plan, joined(joined(first_prompt(), first->tokens), question(9)));
    expect_settled();
    const auto pieces = model_of(prefiller).scheduler().load().chunk_pieces;
    const auto second = finish(local, second_turn);
    ASSERT_TRUE(*second->report) << plan << ": " << second->report->error().to_string();
    EXPECT_EQ(report_of(second).cached_tokens, 80U) << "81 tokens, as far as the grid goes";
    EXPECT_EQ(second->tokens, reference(second_turn)->tokens) << plan;
    // It had the first turn's 70 tokens: the rest up to 80, and what is sent.
    EXPECT_EQ(model_of(prefiller).scheduler().load().chunk_pieces - pieces, 2U) << plan;
    EXPECT_LT(report_of(second).transfer.payload_bytes, report_of(first).transfer.payload_bytes / 2) << plan;
    EXPECT_TRUE(second->recoveries.empty());
  }
}

TEST_F(Prefixes, ANodeThatLostThePrefixComputesItAndSendsNoneOfIt) {
  Node& local = add_node(keeping("local"));
  add_node({"A"});
  const auto first = finish(local, turn(kPrefillElsewhere, first_prompt()));
  const auto second_turn = turn(kPrefillElsewhere, joined(joined(first_prompt(), first->tokens), question(9)));
  const auto second = finish(local, second_turn);
  EXPECT_EQ(report_of(second).cached_tokens, 80U);
  EXPECT_EQ(second->tokens, reference(second_turn)->tokens);
  EXPECT_LT(report_of(second).transfer.payload_bytes, report_of(first).transfer.payload_bytes / 2);
}

TEST_F(Prefixes, ARequestGoesOnAloneFromThePrefixWhereTheOtherNodeIsGone) {
  Node& local = add_node(keeping("local"));
  add_node(keeping("A"));
  const auto first = finish(local, turn(kPrefillElsewhere, first_prompt()));
  const auto second_turn = turn(kPrefillElsewhere, joined(joined(first_prompt(), first->tokens), question(9)));
  expect_settled();
  nodes_.pop_back();
  const auto second = finish(local, second_turn);
  ASSERT_TRUE(*second->report) << second->report->error().to_string();
  ASSERT_EQ(second->recoveries.size(), 1U);
  EXPECT_EQ(second->recoveries.front().salvaged_tokens, 80U);
  EXPECT_EQ(second->tokens, reference(second_turn)->tokens);
}

TEST_F(Prefixes, ARelayOrAPoolBeginsAtTheBeginning) {
  Node& local = add_node(keeping("local"));
  add_node(keeping("A"));
  add_node(keeping("B"));
  for (const std::string& plan :
       {plan_text("A:0-3,B:3-6", "local:0-6"), plan_text("A:0-3,local:3-6", "A:0-3,local:3-6")}) {
    for (int repeated = 0; repeated < 2; ++repeated) {
      const auto options = turn(plan, first_prompt());
      const auto answered = finish(local, options);
      ASSERT_TRUE(*answered->report) << plan << ": " << answered->report->error().to_string();
      EXPECT_EQ(report_of(answered).cached_tokens, 0U) << plan;
      EXPECT_EQ(answered->tokens, reference(options)->tokens) << plan;
    }
  }
}

TEST_F(Prefixes, WhatACancelledRequestHadComputedIsKept) {
  Node& local = add_node(keeping("local"));
  Observer observer(*loop_);
  const auto cancelled = model_of(local).submit(turn(kAlone, first_prompt()), observer).value();
  observer.after_prefilled = [&](std::uint32_t tokens) {
    if (tokens == 2 * kChunk) loop_->post([&] { cancelled->cancel(); });
  };
  wait_for(observer);
  expect_settled();
  const auto options = turn(kAlone, first_prompt());
  const auto whole = finish(local, options);
  EXPECT_GE(report_of(whole).cached_tokens, 2 * kChunk);
  EXPECT_EQ(whole->tokens, reference(options)->tokens);
}

TEST_F(Prefixes, TwoRequestsAtOnceDoNotShareOneText) {
  Node& local = add_node(keeping("local"));
  const auto first = finish(local, turn(kAlone, first_prompt()));
  const auto second_turn = turn(kAlone, joined(joined(first_prompt(), first->tokens), question(9)));
  Observer one(*loop_);
  Observer other(*loop_);
  const auto one_request = model_of(local).submit(second_turn, one).value();
  const auto other_request = model_of(local).submit(second_turn, other).value();
  EXPECT_EQ(one_request->cached_tokens(), kPromptTokens + kNewTokens - 1);
  EXPECT_EQ(other_request->cached_tokens(), 0U);
  wait_for(one);
  wait_for(other);
  EXPECT_EQ(one.tokens, reference(second_turn)->tokens);
  EXPECT_EQ(other.tokens, one.tokens);
}

TEST_F(Prefixes, KeptTextsMakeRoomForRequestsThatTakeNone) {
  Node& local = add_node(keeping("local"));
  add_node(keeping("A"));
  for (const std::string& plan : {kAlone, kPrefillElsewhere, plan_text("A:0-3,local:3-6", "A:0-3,local:3-6")}) {
    for (Token text = 0; text < 3; ++text) {
      auto prompt = first_prompt();
      prompt.front() += text;
      const auto answered = finish(local, turn(plan, prompt));
      ASSERT_TRUE(*answered->report) << plan << ": " << answered->report->error().to_string();
      EXPECT_TRUE(answered->recoveries.empty()) << plan;
      expect_settled();
    }
  }
}

TEST_F(Prefixes, KeptTextsMakeRoomForRequests) {
  Node& local = add_node(keeping("local"));  // for two texts
  for (Token text = 0; text < 4; ++text) {
    auto prompt = first_prompt();
    prompt.front() += text;
    const auto options = turn(kAlone, prompt);
    const auto answered = finish(local, options);
    ASSERT_TRUE(*answered->report) << answered->report->error().to_string();
    EXPECT_EQ(answered->tokens, reference(options)->tokens);
    expect_settled();
  }
}

// Layers that keep a window, a state, or latent rows.
class PrefixesOf : public test::Cluster, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    Cluster::SetUp();
    dense_ = std::exchange(model_, engine::test::reference_model(GetParam()));
  }
  void TearDown() override {
    Cluster::TearDown();
    model_ = std::move(dense_);
  }

  Node& add(const std::string& name, KeptPrefixes kept) {
    NodeSpec spec{name, 4096};  // so long that windows save memory
    spec.kept_prefixes = kept;
    return add_node(spec);
  }
  std::vector<Token> text(std::uint32_t count) const {
    std::vector<Token> tokens;
    for (std::uint32_t i = 0; i < count; ++i)
      tokens.push_back(static_cast<Token>((i * 37 + i * i * 11 + 5) % model_->shape().vocabulary_size));
    return tokens;
  }
  RequestOptions turn(const std::string& prefill, std::vector<Token> prompt) const {
    RequestOptions options;
    options.prompt = std::move(prompt);
    options.max_new_tokens = kNewTokens;
    options.chunk_tokens = kChunk;
    options.determinism = handoff::Determinism::kDeterministic;
    const std::uint32_t layers = model_->shape().layer_count;
    const std::string all = std::format(":0-{}", layers);
    options.plan = plan::parse_plan(plan_text(prefill + all, "local" + all), peers_, layers).value();
    return options;
  }

  std::shared_ptr<const engine::Model> dense_;
};

TEST_P(PrefixesOf, ASecondTurnHasTheBitsOfAFreshOne) {
  Node& fresh = add("fresh", KeptPrefixes::kNone);
  const auto reference = finish(fresh, turn("local", text(650)));
  ASSERT_TRUE(*reference->report) << (*reference->report).error().to_string();
  for (const std::string prefill : {"local", "A"}) {
    nodes_.clear();
    peers_.clear();
    Node& local = add("local", KeptPrefixes::kUntilRoomIsNeeded);
    if (prefill != "local") add(prefill, KeptPrefixes::kUntilRoomIsNeeded);
    const auto first = finish(local, turn(prefill, text(600)));
    ASSERT_TRUE(*first->report) << prefill << ": " << (*first->report).error().to_string();
    expect_settled();
    const auto second = finish(local, turn(prefill, text(650)));
    ASSERT_TRUE(*second->report) << prefill << ": " << (*second->report).error().to_string();
    EXPECT_EQ((**second->report).cached_tokens, 592U) << prefill;
    EXPECT_TRUE(second->recoveries.empty()) << prefill;
    EXPECT_TRUE(second->logits == reference->logits) << prefill;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, PrefixesOf,
                         testing::Values("tiny/gemma3", "tiny/granitehybrid", "tiny/gpt-oss", "tiny/deepseek2"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace_if(name, [](char c) { return c == '/' || c == '-'; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace baton::node
