// A request that goes on by another plan when a node of its own is lost.
#include <gtest/gtest.h>

#include <utility>

#include "node/test_cluster.h"

namespace baton::node {
namespace {

using test::kChunk;
using test::kNewTokens;
using test::kPromptTokens;
using test::plan_text;

const std::string kHereAlone = plan_text("local:0-6", "local:0-6");
// Slow enough to die in the middle: a chunk takes some ten milliseconds.
constexpr engine::EmulatedDevice kSlow{.teraflops = 0.0002, .gigabytes_per_second = 1000};

class Replanning : public test::Cluster {
 protected:
  // 'A' is the last, and dies first.
  void SetUp() override {
    test::Cluster::SetUp();
    add_node({"local"});
    add_node({"B"});
    add_node({.name = "A", .emulation = kSlow});
    alone_ = finish(local(), exact(kHereAlone));
    ASSERT_TRUE(*alone_->report);
  }

  Node& local() { return *nodes_.front(); }
  void kill_last() {
    loop_->post([this] { nodes_.pop_back(); });
  }
  // Whatever is computed again has the same bits.
  RequestOptions exact(const std::string& plan) const {
    RequestOptions options = request(plan);
    options.determinism = handoff::Determinism::kDeterministic;
    return options;
  }
  // Goes on by these, one after another.
  RequestOptions exact(const std::string& plan, std::vector<std::string> next) {
    RequestOptions options = exact(plan);
    options.replan = [this, next = std::move(next)](const Loss& loss) -> std::optional<plan::Plan> {
      losses_.push_back(loss);
      if (losses_.size() > next.size()) return std::nullopt;
      return plan::parse_plan(next[losses_.size() - 1], peers_, test::kLayers).value();
    };
    return options;
  }
  void kill_at_token(Observer& observer, std::size_t token) {
    observer.after_token = [this, token](std::size_t count) {
      if (count == token) kill_last();
    };
  }
  void expect_same_text(Observer& observer, RequestOptions options) {
    const auto request = model_of(local()).submit(std::move(options), observer);
    ASSERT_TRUE(request) << request.error().to_string();
    wait_for(observer);
    ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
    EXPECT_EQ(observer.tokens, alone_->tokens);
    EXPECT_TRUE(observer.logits == alone_->logits);
    expect_no_leaks();
  }

  std::unique_ptr<Observer> alone_;
  std::vector<Loss> losses_;
};

TEST_F(Replanning, AnotherNodeReadsTheRestOfThePrompt) {
  const std::string next = plan_text("B:0-6", "local:0-6");
  Observer observer(*loop_);
  observer.after_prefilled = [&, killed = false](std::uint32_t tokens) mutable {
    if (tokens < 2 * kChunk || killed) return;
    killed = true;
    kill_last();
  };
  expect_same_text(observer, exact(plan_text("A:0-6", "local:0-6"), {next}));
  ASSERT_EQ(losses_.size(), 1U);
  EXPECT_EQ(losses_[0].lost, std::vector{peers_[2].fingerprint});
  EXPECT_EQ(losses_[0].text, request(kHereAlone).prompt);
  EXPECT_GE(losses_[0].held_tokens, 2 * kChunk);
  EXPECT_EQ(losses_[0].tokens_left, kNewTokens);
  ASSERT_EQ(observer.recoveries.size(), 1U);
  const RequestReport& report = **observer.report;
  const Recovery& recovery = report.recoveries[0];
  EXPECT_EQ(recovery.lost, peers_[2]);
  EXPECT_EQ(recovery.replanned.to_string(), next);
  EXPECT_EQ(report.plan, recovery.replanned);
  EXPECT_EQ(recovery.salvaged_tokens, losses_[0].held_tokens);
  // Nothing below is sent again.
  EXPECT_EQ(report.transfer_from.at("B").slices,
            test::kLayers * ((kPromptTokens - recovery.salvaged_tokens + kChunk - 1) / kChunk) + 1);
  EXPECT_LE(recovery.progress_s, recovery.failed_s);
  EXPECT_LT(recovery.failed_s, recovery.next_token_s);
  EXPECT_GT(recovery.cost_s(), 0);
}

TEST_F(Replanning, AnotherNodeWritesTheRestOfTheText) {
  const std::string next = plan_text("B:0-6", "B:0-6");
  Observer observer(*loop_);
  kill_at_token(observer, 5);
  expect_same_text(observer, exact(plan_text("B:0-6", "A:0-6"), {next}));
  ASSERT_EQ(losses_.size(), 1U);
  EXPECT_EQ(losses_[0].held_tokens, 0U);
  EXPECT_EQ(losses_[0].tokens_left, kNewTokens - 5);
  EXPECT_EQ((*observer.report)->plan.to_string(), next);
}

TEST_F(Replanning, WhatWasWrittenIsReadWithThePrompt) {
  Observer observer(*loop_);
  kill_at_token(observer, 5);
  RequestOptions options = exact(plan_text("A:0-6", "A:0-6"), {plan_text("B:0-3,local:3-6", "local:0-6")});
  options.determinism = handoff::Determinism::kFast;
  ASSERT_TRUE(model_of(local()).submit(std::move(options), observer));
  wait_for(observer);
  ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
  EXPECT_EQ(observer.tokens, alone_->tokens);
  ASSERT_EQ(losses_.size(), 1U);
  EXPECT_EQ(losses_[0].text.size(), kPromptTokens + 5);
  EXPECT_EQ(observer.recoveries.at(0).text_tokens, kPromptTokens + 5);
  expect_no_leaks();
}

TEST_F(Replanning, WhatThisNodeHasReadForAnotherItNeedNotReadAgain) {
  Observer observer(*loop_);
  kill_at_token(observer, 5);
  expect_same_text(observer, exact(plan_text("local:0-6", "A:0-6")));
  ASSERT_EQ(observer.recoveries.size(), 1U);
  // All but the last chunk, whose logits are needed.
  EXPECT_EQ(observer.recoveries[0].salvaged_tokens, kPromptTokens / kChunk * kChunk);
}

TEST_F(Replanning, EveryLossMakesANewPlan) {
  Observer observer(*loop_);
  observer.after_token = [this](std::size_t count) {
    if (count == 3 || count == 7) kill_last();
  };
  expect_same_text(observer, exact(plan_text("A:0-3,B:3-6", "A:0-3,B:3-6"), {plan_text("local:0-2,B:2-6", "B:0-6")}));
  ASSERT_EQ(losses_.size(), 2U);
  EXPECT_EQ(losses_[1].lost, (std::vector{peers_[2].fingerprint, peers_[1].fingerprint}));
  EXPECT_EQ((*observer.report)->plan.to_string(), kHereAlone);
  EXPECT_EQ((*observer.report)->recoveries.size(), 2U);
}

TEST_F(Replanning, APlanWithALostNodeIsNone) {
  Observer observer(*loop_);
  kill_at_token(observer, 5);
  expect_same_text(observer, exact(plan_text("A:0-6", "A:0-6"), {plan_text("A:0-6", "local:0-6")}));
  EXPECT_EQ((*observer.report)->plan.to_string(), kHereAlone);
  EXPECT_EQ(observer.recoveries.size(), 1U);
}

TEST_F(Replanning, TheNodeThatWasToWriteReadsOnFromWhatItHas) {
  add_node({.name = "D", .kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded});
  Node& reader = add_node({.name = "C", .emulation = kSlow});
  const std::string next = plan_text("D:0-6", "D:0-6");
  Observer observer(*loop_);
  RequestOptions options = exact(plan_text("C:0-6", "D:0-6"), {next});
  options.determinism = handoff::Determinism::kFast;
  ASSERT_TRUE(model_of(local()).submit(std::move(options), observer));
  // With the third chunk begun the first is done.
  ASSERT_TRUE(comes([&] { return model_of(reader).scheduler().load().chunk_pieces >= 4; }));
  kill_last();
  wait_for(observer);
  ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
  EXPECT_EQ(observer.tokens, alone_->tokens);
  ASSERT_EQ(losses_.size(), 1U);
  EXPECT_EQ(losses_[0].lost, std::vector{peers_[4].fingerprint});
  EXPECT_EQ(losses_[0].held_tokens, 0U);
  ASSERT_TRUE(losses_[0].held_elsewhere);
  EXPECT_EQ(losses_[0].held_elsewhere->fingerprint, peers_[3].fingerprint);
  EXPECT_GE(losses_[0].held_elsewhere->tokens, kChunk);
  const RequestReport& report = **observer.report;
  EXPECT_EQ(report.plan.to_string(), next);
  EXPECT_GE(report.recoveries.at(0).salvaged_tokens, kChunk);
  EXPECT_EQ(report.cached_tokens, 0U);
}

TEST_F(Replanning, WithoutANodeThatHasAnotherModelByNow) {
  add_node({.name = "C", .digest = sha256(as_byte_span("another"))});
  const std::string next = plan_text("B:0-6", "local:0-6");
  Observer observer(*loop_);
  expect_same_text(observer, exact(plan_text("C:0-6", "local:0-6"), {next}));
  ASSERT_EQ(observer.recoveries.size(), 1U);
  EXPECT_EQ(observer.recoveries[0].lost, peers_.back());
  EXPECT_EQ(observer.recoveries[0].error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(observer.recoveries[0].replanned.to_string(), next);
}

// Greets as a later version would.
class LaterVersion : public net::ConnectionHandler {
 public:
  void on_frame(ByteSpan) override {}
  std::optional<net::OutFrame> next_frame() override {
    if (std::exchange(greeted_, true)) return std::nullopt;
    const handoff::Hello hello{.min_version = handoff::kMaxVersion + 1,
                               .max_version = handoff::kMaxVersion + 2,
                               .software = "later",
                               .extensions = {}};
    return net::OutFrame::owning(handoff::encode({.transfer = {}, .generation = 0, .body = hello}));
  }
  void on_closed(const Error&) override {}

 private:
  bool greeted_ = false;
};

TEST_F(Replanning, WithoutANodeOfAnotherVersion) {
  const auto identity = net::Identity::load_or_create(folder_->path() / "key-later").value();
  const auto transport = net::Transport::create(*loop_, identity).value();
  net::ListenOptions options;
  options.is_trusted = [](const net::Fingerprint&) { return true; };
  const auto listener =
      transport
          ->listen(net::Endpoint::parse_listen("127.0.0.1:0").value(), std::move(options),
                   [](const auto& connection) { connection->start(std::make_shared<LaterVersion>()); })
          .value();
  peers_.push_back({"C", listener->endpoint().to_string(), identity.fingerprint().to_string()});
  const std::string next = plan_text("B:0-6", "local:0-6");
  Observer observer(*loop_);
  expect_same_text(observer, exact(plan_text("C:0-6", "local:0-6"), {next}));
  ASSERT_EQ(observer.recoveries.size(), 1U);
  EXPECT_EQ(observer.recoveries[0].lost, peers_.back());
  EXPECT_EQ(observer.recoveries[0].error.code, ErrorCode::kUnsupported);
  EXPECT_EQ(observer.recoveries[0].replanned.to_string(), next);
}

}  // namespace
}  // namespace baton::node
