// Texts at which another node guesses: the same tokens as without, whatever becomes of that node.
#include <gtest/gtest.h>

#include <thread>

#include "node/guess_terms.h"
#include "node/test_cluster.h"

namespace baton::node {
namespace {

using namespace test;

constexpr std::uint32_t kText = 200;  // with its prompt more than half of a node's cells
// So slow that a step takes 3 ms, whatever the machine: then guesses are worth their while.
constexpr engine::EmulatedDevice kSlowDecoder{.teraflops = 1, .gigabytes_per_second = 0.6};
constexpr std::string_view kAllHere = "prefill=local:0-6;decode=local:0-6";
constexpr std::string_view kReadByP = "prefill=P:0-6;decode=local:0-6";

class RemoteDraft : public Cluster {
 protected:
  RequestOptions text(std::string_view plan, float temperature = 0) const {
    RequestOptions options = request(plan);
    options.max_new_tokens = kText;
    options.sampler.temperature = temperature;
    options.sampler.seed = 3;
    options.speculation = Speculation::kOff;
    return options;
  }
  RequestOptions guessed(RequestOptions options, std::string_view on = "P") const {
    options.speculation = Speculation::kDraft;
    options.draft_on = *std::ranges::find(peers_, on, &plan::NodeRef::name);
    return options;
  }
  std::unique_ptr<Observer> finish_text(RequestOptions options) {
    auto observer = finish(*nodes_.front(), std::move(options));
    EXPECT_TRUE(observer->report && *observer->report);
    return observer;
  }
  static const SpeculationReport& guesses_of(const Observer& observer) { return (*observer.report)->speculation; }
};

// The draft is the model itself, so that most guesses are right.
TEST_F(RemoteDraft, GivesTheSameTextByAnyPlanAtAnyTemperature) {
  Node& local = add_node({.name = "local", .emulation = kSlowDecoder});
  add_node({.name = "P", .draft = model_});
  for (const std::string_view plan : {kAllHere, kReadByP}) {
    for (const float temperature : {0.0F, 0.8F}) {
      const auto plain = finish(local, text(plan, temperature));
      const auto drafted = finish(local, guessed(text(plan, temperature)));
      EXPECT_EQ(drafted->tokens, plain->tokens) << plan << " at " << temperature;
      EXPECT_TRUE(drafted->logits == plain->logits) << plan << " at " << temperature;
      const SpeculationReport& guesses = guesses_of(*drafted);
      EXPECT_EQ(guesses.how, "draft");
      EXPECT_EQ(guesses.where, "P");
      EXPECT_GT(guesses.checks, 0u);
      EXPECT_GT(guesses.right_tokens, 0u);
    }
  }
  expect_no_leaks();
}

TEST_F(RemoteDraft, LeavesRoomForTheNextText) {
  add_node({.name = "local", .emulation = kSlowDecoder});
  add_node({.name = "P", .draft = model_});
  for (int round = 0; round < 4; ++round) {
    const auto drafted = finish_text(guessed(text(kAllHere)));
    EXPECT_GT(guesses_of(*drafted).checks, 0u) << round;
    expect_no_leaks();
  }
}

TEST_F(RemoteDraft, SaysWhyWhereTheOtherNodeDoesNotGuess) {
  add_node({.name = "local", .emulation = kSlowDecoder});
  add_node({.name = "none"});
  add_node({.name = "small", .context_tokens = 256, .draft = model_});
  add_node({.name = "other", .digest = sha256(as_byte_span("another model")), .draft = model_});
  const auto plain = finish_text(text(kAllHere));
  for (const auto& [name, why] :
       {std::pair("none", "no draft model"), std::pair("small", "no room"), std::pair("other", "another model")}) {
    const auto drafted = finish_text(guessed(text(kAllHere), name));
    EXPECT_EQ(drafted->tokens, plain->tokens);
    EXPECT_NE(guesses_of(*drafted).why.find(why), std::string::npos) << name << ": " << guesses_of(*drafted).why;
    EXPECT_EQ(guesses_of(*drafted).checks, 0u);
  }
  expect_no_leaks();
}

TEST_F(RemoteDraft, GoesOnWithoutANodeThatIsNotThere) {
  add_node({.name = "local", .emulation = kSlowDecoder});
  add_node({.name = "P", .draft = model_});
  const auto plain = finish_text(text(kAllHere));
  nodes_.back().reset();
  nodes_.pop_back();
  const auto drafted = finish_text(guessed(text(kAllHere)));
  EXPECT_EQ(drafted->tokens, plain->tokens);
  EXPECT_NE(guesses_of(*drafted).why.find("P: "), std::string::npos) << guesses_of(*drafted).why;
}

TEST_F(RemoteDraft, GoesOnWithoutANodeThatDiesInMidText) {
  Node& local = add_node({.name = "local", .emulation = kSlowDecoder});
  add_node({.name = "P", .draft = model_});
  const auto plain = finish_text(text(kReadByP));
  Observer observer(*loop_);
  observer.after_token = [&](std::size_t count) {
    if (count != kText / 2) return;
    loop_->post([&] { nodes_.pop_back(); });
  };
  const auto request = model_of(local).submit(guessed(text(kReadByP)), observer);
  ASSERT_TRUE(request);
  wait_for(observer);
  ASSERT_TRUE(*observer.report);
  EXPECT_EQ(observer.tokens, plain->tokens);
  EXPECT_NE(guesses_of(observer).why.find("P: "), std::string::npos) << guesses_of(observer).why;
  EXPECT_TRUE(observer.recoveries.empty());
}

// Its device is taken for longer than a guess may take.
TEST_F(RemoteDraft, WaitsForNoGuessForLong) {
  Node& local = add_node({.name = "local", .emulation = kSlowDecoder});
  Node& guesser = add_node({.name = "P", .draft = model_});
  const auto plain = finish_text(text(kAllHere));
  Observer observer(*loop_);
  observer.after_token = [&](std::size_t count) {
    if (count != kText / 2) return;
    ASSERT_TRUE(model_of(guesser).executor().submit(
        [](engine::Engine&, const std::stop_token&) { std::this_thread::sleep_for(std::chrono::seconds(2)); }));
  };
  const auto request = model_of(local).submit(guessed(text(kAllHere)), observer);
  ASSERT_TRUE(request);
  wait_for(observer);
  ASSERT_TRUE(*observer.report);
  EXPECT_EQ(observer.tokens, plain->tokens);
  EXPECT_NE(guesses_of(observer).why.find("is late with a guess"), std::string::npos) << guesses_of(observer).why;
  expect_no_leaks();
}

TEST(GuessTerms, ComeBackAsTheyWere) {
  handoff::Open request;
  request.plan = plan::Plan::single(2);
  request.prefix_tokens = 64;
  request.extensions = {{1, Bytes(32)}};
  engine::SamplerOptions sampler;
  sampler.temperature = 0.7F;
  sampler.top_k = 40;
  sampler.top_p = 0.9F;
  sampler.min_p = 0.05F;
  sampler.repeat_penalty = 1.1F;
  sampler.presence_penalty = 0.2F;
  sampler.frequency_penalty = 0.3F;
  sampler.penalty_window = 7;
  sampler.penalty_from = 9;
  sampler.seed = 1ULL << 40U;
  handoff::Open open = open_for_guesses(
      request, {.peer = {"P", "p:1", "ff"}, .layers = 2, .text_tokens = 70, .more_tokens = 12}, sampler);
  EXPECT_TRUE(handoff::wants_guesses(open));
  EXPECT_TRUE(handoff::check(open, 2) || open.chunk_tokens == 0);
  EXPECT_EQ(open.prefix_tokens, 0u);
  const auto read = sampler_of(open);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->temperature, sampler.temperature);
  EXPECT_EQ(read->top_k, sampler.top_k);
  EXPECT_EQ(read->top_p, sampler.top_p);
  EXPECT_EQ(read->min_p, sampler.min_p);
  EXPECT_EQ(read->repeat_penalty, sampler.repeat_penalty);
  EXPECT_EQ(read->presence_penalty, sampler.presence_penalty);
  EXPECT_EQ(read->frequency_penalty, sampler.frequency_penalty);
  EXPECT_EQ(read->penalty_window, sampler.penalty_window);
  EXPECT_EQ(read->penalty_from, sampler.penalty_from);
  EXPECT_EQ(read->seed, sampler.seed);
  open.extensions.front().value.pop_back();
  EXPECT_EQ(sampler_of(open).error().code, ErrorCode::kProtocol);
  open.extensions.clear();
  EXPECT_EQ(sampler_of(open).error().code, ErrorCode::kProtocol);
}

}  // namespace
}  // namespace baton::node
