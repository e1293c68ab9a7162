// Whole requests over several nodes, and what happens when nodes fail.
#include "node/node.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <optional>

#include "node/test_cluster.h"

namespace baton::node {
namespace {

using test::kChunk;
using test::kDeadline;
using test::kLayers;
using test::kNewTokens;
using test::kPromptTokens;
using test::plan_text;

class Cluster : public test::Cluster {};

TEST_F(Cluster, GivesTheSameLogitsBitByBitUnderEveryPlan) {
  Node& local = add_node({"local"});
  add_node({"A"});
  add_node({"B"});
  const auto alone = finish(local, request(plan_text("local:0-6", "local:0-6")));
  ASSERT_TRUE(*alone->report) << alone->report->error().to_string();
  ASSERT_EQ(alone->tokens.size(), kNewTokens);
  for (const std::string& text :
       {plan_text("A:0-6", "local:0-6"), plan_text("A:0-4,local:4-6", "local:0-6"),
        plan_text("A:0-2,B:2-4,local:4-6", "local:0-6"), plan_text("A:0-3,local:3-6", "A:0-3,local:3-6"),
        plan_text("local:0-3,A:3-6", "local:0-3,A:3-6"), plan_text("A:0-3,B:3-6", "local:0-6"),
        plan_text("A:0-6", "A:0-6"), plan_text("A:0-6", "B:0-6"), plan_text("A:0-2,B:2-6", "B:0-4,local:4-6"),
        plan_text("local:0-6", "A:0-2,B:2-6"), plan_text("A:0-2,B:2-4,local:4-6", "local:0-2,A:2-4,B:4-6")}) {
    const auto split = finish(local, request(text));
    ASSERT_TRUE(*split->report) << text << ": " << split->report->error().to_string();
    EXPECT_EQ(split->tokens, alone->tokens) << text;
    EXPECT_TRUE(split->logits == alone->logits) << text;
    EXPECT_TRUE(split->recoveries.empty()) << text << ": " << split->recoveries.front().error.to_string();
    expect_no_leaks();
  }
}

// A fast peer before a slow node: what it sends ahead of time is bounded, and K and V still come.
TEST_F(Cluster, TakesInNoMoreHiddenStatesAheadOfTimeThanItMay) {
  constexpr int kAttempts = 3;
  constexpr std::size_t kChunkBytes = kChunk * 128 * sizeof(float);
  // A chunk of two layers takes about 60 ms.
  Node& local = add_node({.name = "local",
                          .emulation = engine::EmulatedDevice{.teraflops = 0.0001, .gigabytes_per_second = 100},
                          .early_hidden_bytes = kChunkBytes});
  add_node({"A"});
  add_node({"reference"});
  RequestOptions options = request(plan_text("A:0-4,local:4-6", "local:0-6"));
  options.prompt.insert(options.prompt.end(), options.prompt.begin(), options.prompt.end());
  options.prompt.insert(options.prompt.end(), options.prompt.begin(), options.prompt.end());
  options.max_new_tokens = 1;
  RequestOptions alone = options;
  alone.plan = plan::Plan::single(kLayers);
  const auto reference = finish(*nodes_[2], std::move(alone));
  constexpr double kHardlyExposed_s = 0.1;
  double exposed_s = kHardlyExposed_s;
  // Other work on this machine may come in between at the end of some.
  for (int attempt = 0; attempt < kAttempts && exposed_s >= kHardlyExposed_s; ++attempt) {
    Observer observer(*loop_);
    std::size_t most = 0;
    std::shared_ptr<Request> request_handle;
    observer.after_prefilled = [&](std::uint32_t) {
      most = std::max(most, request_handle->session()->hidden_inbox_bytes());
    };
    request_handle = model_of(local).submit(RequestOptions(options), observer).value();
    wait_for(observer);
    ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
    EXPECT_TRUE(observer.recoveries.empty());
    EXPECT_EQ(observer.tokens, reference->tokens);
    // What is in turn comes in beside what may wait.
    EXPECT_LE(most, 2 * kChunkBytes);
    EXPECT_GT(most, 0u);
    exposed_s = (*observer.report)->timings.exposed_transfer_s;
    request_handle.reset();
    expect_no_leaks();
  }
  // K and V of the peer's layers did not wait until this node had caught up.
  EXPECT_LT(exposed_s, kHardlyExposed_s);
}

// A slow link behind a fast device: what is computed ahead of it is bounded.
TEST_F(Cluster, ComputesNoMoreAheadOfItsLinkThanItMayKeep) {
  add_node({.name = "local", .kept_bytes = 1, .link = net::LinkEmulation{.bits_per_second = 1e7}});
  add_node({"A"});
  RequestOptions options = request(plan_text("local:0-6", "A:0-6"));
  options.codec = handoff::DType::kQ8_0;
  Observer observer(*loop_);
  std::size_t most = 0;
  std::shared_ptr<Request> request_handle;
  observer.after_prefilled = [&](std::uint32_t) { most = std::max(most, request_handle->session()->kept_bytes()); };
  request_handle = model_of(*nodes_.front()).submit(std::move(options), observer).value();
  wait_for(observer);
  ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
  EXPECT_EQ(observer.tokens.size(), kNewTokens);
  const engine::KvLayout& layout = model_of(*nodes_.front()).executor().engine().kv_layout(0);
  const std::size_t chunk_bytes = kLayers * kChunk *
                                  (handoff::encoded_size(handoff::DType::kQ8_0, layout.k_width) +
                                   handoff::encoded_size(handoff::DType::kQ8_0, layout.v_width));
  EXPECT_GT(most, 0U);
  // One chunk more may have begun while nothing was kept yet.
  EXPECT_LE(most, 2 * chunk_bytes);
  request_handle.reset();
  expect_no_leaks();
}

TEST_F(Cluster, StreamsAllKvExactlyOnce) {
  Node& local = add_node({"local"});
  add_node({"A"});
  const auto done = finish(local, request(plan_text("A:0-6", "local:0-6")));
  ASSERT_TRUE(*done->report);
  const RequestReport& report = **done->report;
  const std::uint64_t chunks = (kPromptTokens + kChunk - 1) / kChunk;
  const std::uint64_t row_bytes = model_of(local).executor().engine().kv_layout(0).k_row_bytes +
                                  model_of(local).executor().engine().kv_layout(0).v_row_bytes;
  EXPECT_EQ(report.transfer.slices, chunks * kLayers + 1);  // and the logits
  EXPECT_EQ(report.transfer.payload_bytes, kPromptTokens * kLayers * row_bytes + 400 * sizeof(float));
  EXPECT_EQ(report.transfer.connections, 1u);
  EXPECT_EQ(done->prefilled, kPromptTokens);
}

TEST_F(Cluster, TakesCoarserCodecsAndOtherCaches) {
  Node& local = add_node({.name = "local", .cache = engine::CacheType::kQ8_0});
  add_node({"A"});
  add_node({.name = "B", .cache = engine::CacheType::kQ8_0});
  for (const auto codec : {handoff::DType::kF16, handoff::DType::kQ8_0, handoff::DType::kQ4_0}) {
    for (const std::string& text : {plan_text("A:0-6", "local:0-6"), plan_text("B:0-4,local:4-6", "local:0-6")}) {
      RequestOptions options = request(text);
      options.codec = codec;
      options.hidden = handoff::DType::kBf16;
      const auto done = finish(local, std::move(options));
      ASSERT_TRUE(*done->report) << done->report->error().to_string();
      EXPECT_EQ(done->tokens.size(), kNewTokens);
      EXPECT_TRUE(done->recoveries.empty());
    }
  }
  expect_no_leaks();
}

TEST_F(Cluster, SendsAQ8CacheToAQ8CacheAsItIs) {
  Node& local = add_node({.name = "local", .cache = engine::CacheType::kQ8_0});
  add_node({.name = "A", .cache = engine::CacheType::kQ8_0});
  const auto alone = finish(local, request(plan_text("local:0-6", "local:0-6")));
  RequestOptions options = request(plan_text("A:0-6", "local:0-6"));
  options.codec = handoff::DType::kQ8_0;
  EXPECT_EQ(finish(local, std::move(options))->tokens, alone->tokens);
}

TEST_F(Cluster, LoadsOnlyThePlansLayersAndTheRestWhenItMustGoOnAlone) {
  Node& local = add_node({.name = "local", .layers = LayerRange{3, 6}});
  add_node({.name = "A", .context_tokens = 256, .layers = LayerRange{0, 3}});
  add_node({"reference"});
  const auto reference = finish(*nodes_[2], request(plan_text("local:0-6", "local:0-6")));
  const std::string pooled = plan_text("A:0-3,local:3-6", "A:0-3,local:3-6");
  EXPECT_EQ(finish(local, request(pooled))->tokens, reference->tokens);
  expect_no_leaks();

  Observer observer(*loop_);
  observer.after_token = [&](std::size_t count) {
    if (count == 5) loop_->post([&] { nodes_[1].reset(); });
  };
  RequestOptions options = request(pooled);
  options.determinism = handoff::Determinism::kDeterministic;
  ASSERT_TRUE(model_of(local).submit(std::move(options), observer));
  wait_for(observer);
  ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
  EXPECT_EQ(observer.tokens, reference->tokens);
  EXPECT_EQ(observer.recoveries.size(), 1u);
  nodes_.erase(nodes_.begin() + 1);
  expect_no_leaks();
}

TEST_F(Cluster, GoesOnAloneWhereAPeerHasNoRoom) {
  Node& local = add_node({"local"});
  Node& full = add_node({.name = "A", .context_tokens = 256});
  const auto alone = finish(local, request(plan_text("local:0-6", "local:0-6")));
  const auto taken = model_of(full).executor().engine().reserve(256).value();
  const auto done = finish(local, request(plan_text("A:0-6", "local:0-6")));
  ASSERT_TRUE(*done->report);
  EXPECT_EQ(done->tokens, alone->tokens);
  ASSERT_EQ(done->recoveries.size(), 1u);
  EXPECT_EQ(done->recoveries[0].error.code, ErrorCode::kNoCapacity);
}

TEST_F(Cluster, GoesOnAloneWhereAPeerIsNotThere) {
  Node& local = add_node({"local"});
  add_node({"A"});
  const auto alone = finish(local, request(plan_text("local:0-6", "local:0-6")));
  RequestOptions options = request(plan_text("A:0-6", "local:0-6"));
  nodes_.pop_back();
  const auto done = finish(local, std::move(options));
  ASSERT_TRUE(*done->report);
  EXPECT_EQ(done->tokens, alone->tokens);
  EXPECT_EQ(done->recoveries.size(), 1u);
}

TEST_F(Cluster, SaysClearlyThatAPeerHasAnotherModel) {
  Node& local = add_node({"local"});
  add_node({.name = "A", .digest = sha256(as_byte_span("another"))});
  const auto done = finish(local, request(plan_text("A:0-6", "local:0-6")));
  ASSERT_FALSE(*done->report);
  EXPECT_EQ(done->report->error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(done->report->error().message.find("another model"), std::string::npos);
  expect_no_leaks();
}

TEST_F(Cluster, SaysClearlyThatAPeerHasAnotherKey) {
  Node& local = add_node({"local"});
  add_node({"A"});
  peers_[1].fingerprint = std::string(64, 'a');
  const auto done = finish(local, request(plan_text("A:0-6", "local:0-6")));
  ASSERT_FALSE(*done->report);
  EXPECT_EQ(done->report->error().code, ErrorCode::kRefused);
}

// A peer that greets with versions of a later time.
class FuturePeer : public net::ConnectionHandler {
 public:
  void on_frame(ByteSpan) override {}
  void on_closed(const Error&) override {}
  std::optional<net::OutFrame> next_frame() override {
    if (std::exchange(greeted_, true)) return std::nullopt;
    const handoff::Hello hello{.min_version = 9, .max_version = 9, .software = "baton 9", .extensions = {}};
    return net::OutFrame::owning(handoff::encode({.transfer = {}, .generation = 0, .body = hello}));
  }

 private:
  bool greeted_ = false;
};

TEST_F(Cluster, GoesOnAloneWhereAPeerSpeaksAnotherVersion) {
  Node& local = add_node({"local"});
  const auto identity = net::Identity::load_or_create(folder_->path() / "key-future").value();
  const auto transport = net::Transport::create(*loop_, identity).value();
  net::ListenOptions options;
  options.is_trusted = [](const net::Fingerprint&) { return true; };
  const auto listener =
      transport->listen(net::Endpoint::parse_listen("127.0.0.1:0").value(), std::move(options),
                        [](const auto& connection) { connection->start(std::make_shared<FuturePeer>()); });
  ASSERT_TRUE(listener);
  peers_.push_back({"future", (*listener)->endpoint().to_string(), identity.fingerprint().to_string()});
  const auto done = finish(local, request(plan_text("future:0-6", "local:0-6")));
  ASSERT_TRUE(*done->report);
  EXPECT_EQ(done->tokens, finish(local, request(plan_text("local:0-6", "local:0-6")))->tokens);
  ASSERT_EQ(done->recoveries.size(), 1u);
  EXPECT_EQ(done->recoveries[0].error.code, ErrorCode::kUnsupported);
  EXPECT_EQ(done->recoveries[0].lost, peers_.back());
  expect_no_leaks();
}

TEST_F(Cluster, GivesEverythingBackWhenARequestIsCancelled) {
  Node& local = add_node({"local"});
  add_node({"A"});
  add_node({"B"});
  Observer observer(*loop_);
  std::shared_ptr<Request> request_handle;
  observer.after_token = [&](std::size_t count) {
    if (count == 3) request_handle->cancel();
  };
  request_handle =
      model_of(local).submit(request(plan_text("A:0-2,B:2-4,local:4-6", "A:0-3,local:3-6")), observer).value();
  wait_for(observer);
  EXPECT_EQ(observer.report->error().code, ErrorCode::kCancelled);
  EXPECT_EQ(observer.tokens.size(), 3u);
  request_handle.reset();
  expect_no_leaks();
}

TEST_F(Cluster, TellsItsPeersWhenItShutsDown) {
  Node& local = add_node({"local"});
  Node& a = add_node({"A"});
  Observer observer(*loop_);
  bool quiet = false;
  observer.after_token = [&](std::size_t count) {
    if (count == 3) loop_->post([&] { a.shut_down(Duration(kDeadline), [&] { quiet = true; }); });
  };
  const auto request_handle = model_of(local).submit(request(plan_text("A:0-6", "A:0-3,local:3-6")), observer);
  ASSERT_TRUE(request_handle);
  wait_for(observer);
  ASSERT_TRUE(*observer.report) << observer.report->error().to_string();
  EXPECT_EQ(observer.tokens.size(), kNewTokens);
  ASSERT_EQ(observer.recoveries.size(), 1u);
  EXPECT_EQ(observer.recoveries[0].error.to_string(), "A at " + peers_[1].address + ": the node is shutting down");
  EXPECT_TRUE(comes([&] { return quiet; })) << "it waited for more than its peer's goodbye";
}

TEST_F(Cluster, ShutsDownAtOnceWhereNobodyIsConnected) {
  Node& local = add_node({"local"});
  bool quiet = false;
  local.shut_down(Duration(kDeadline), [&] {
    quiet = true;
    loop_->stop();
  });
  run_loop_for(Duration(kDeadline / 2));
  EXPECT_TRUE(quiet);
}

TEST_F(Cluster, SamplesTheSameTextWhereverItRuns) {
  Node& local = add_node({"local"});
  add_node({"A"});
  RequestOptions options = request(plan_text("local:0-6", "local:0-6"));
  options.sampler.temperature = 1.5F;
  options.sampler.seed = 7;
  const auto alone = finish(local, options);
  options.plan = plan::parse_plan(plan_text("A:0-6", "A:0-6"), peers_, kLayers).value();
  EXPECT_EQ(finish(local, options)->tokens, alone->tokens);
  options.sampler.seed = 8;
  EXPECT_NE(finish(local, options)->tokens, alone->tokens);
}

TEST_F(Cluster, RefusesRequestsThatMakeNoSense) {
  Node& local = add_node({"local"});
  Observer observer(*loop_);
  RequestOptions empty = request(plan_text("local:0-6", "local:0-6"));
  empty.prompt.clear();
  EXPECT_EQ(model_of(local).submit(std::move(empty), observer).error().code, ErrorCode::kInvalidArgument);
  RequestOptions unknown_token = request(plan_text("local:0-6", "local:0-6"));
  unknown_token.prompt[3] = 400;
  EXPECT_EQ(model_of(local).submit(std::move(unknown_token), observer).error().code, ErrorCode::kInvalidArgument);
  RequestOptions too_long = request(plan_text("local:0-6", "local:0-6"));
  too_long.max_new_tokens = 10'000;
  EXPECT_EQ(model_of(local).submit(std::move(too_long), observer).error().code, ErrorCode::kNoCapacity);
}

// Both nodes have room for exactly one request of their own and none for the other's, so every Open is refused and
// each request goes on alone; nobody waits for the other, and nothing is lost.
TEST_F(Cluster, NeverDeadlocksWhenFullNodesOpenTransfersToEachOther) {
  Node& first = add_node({.name = "A", .context_tokens = 256});
  Node& second = add_node({.name = "B", .context_tokens = 256});
  constexpr int kRounds = 10'000;
  const auto small = [&](std::string_view plan) {
    RequestOptions options = request(plan);
    options.prompt.resize(2);
    options.max_new_tokens = 1;
    return options;
  };
  const RequestOptions on_second = small("prefill=B:0-6;decode=local:0-6");
  const RequestOptions on_first = small("prefill=A:0-6;decode=local:0-6");
  int finished = 0;
  int refused = 0;
  const TimePoint deadline = now() + std::chrono::seconds(120);
  int rounds = 0;
  for (; rounds < kRounds && now() < deadline; ++rounds) {
    Observer one(*loop_);
    Observer other(*loop_);
    const auto a = model_of(first).submit(on_second, one);
    const auto b = model_of(second).submit(on_first, other);
    // Cells come back when the peer's last frame is gone, so a round may find a node still full: that is no failure.
    for (const auto* observer : {a ? &one : nullptr, b ? &other : nullptr}) {
      if (observer == nullptr) continue;
      while (!observer->report && now() < deadline) loop_->run();
      ASSERT_TRUE(observer->report) << "round " << rounds;
      ASSERT_TRUE(*observer->report) << observer->report->error().to_string();
      ++finished;
      refused += static_cast<int>(observer->recoveries.size());
    }
    if (!a || !b) run_loop_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(rounds, kRounds);
  EXPECT_GE(finished, kRounds);
  EXPECT_GT(refused, kRounds / 2);
  expect_no_leaks();
}

// Models whose layers keep something else than K and V: latent rows, a convolution's inputs, a state space's memory.
class KeptMemory : public Cluster, public testing::WithParamInterface<const char*> {
 protected:
  static void SetUpTestSuite() { folder_.emplace(TemporaryFolder::create("baton-test").value()); }
  void SetUp() override {
    Cluster::SetUp();
    const std::string file = std::format("{}/tests/reference/tiny/{}.gguf", BATON_SOURCE_DIR, GetParam());
    model_ = engine::Model::open(file).value();
    layers_ = model_->shape().layer_count;
    lower_ = layers_ / 3;
    upper_ = layers_ - layers_ / 3;
  }

  std::string stage(std::string_view node, std::uint32_t begin, std::uint32_t end) const {
    return std::format("{}:{}-{}", node, begin, end);
  }
  RequestOptions request_of(const std::string& plan, std::uint32_t prompt_tokens = kPromptTokens) const {
    RequestOptions options;
    for (std::uint32_t i = 0; i < prompt_tokens; ++i) {
      options.prompt.push_back(static_cast<Token>((i * 37 + i * i) % model_->shape().vocabulary_size));
    }
    options.max_new_tokens = kNewTokens;
    options.chunk_tokens = kChunk;
    options.plan = plan::parse_plan(plan, peers_, layers_).value();
    return options;
  }

  std::uint32_t layers_ = 0;
  std::uint32_t lower_ = 0;
  std::uint32_t upper_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Tiny, KeptMemory, testing::Values("deepseek2", "lfm2", "granitehybrid"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(KeptMemory, GivesTheSameLogitsBitByBitUnderEveryPlan) {
  Node& local = add_node({"local"});
  add_node({"A"});
  add_node({"B"});
  const std::string all_here = stage("local", 0, layers_);
  const auto alone = finish(local, request_of(plan_text(all_here, all_here)));
  ASSERT_TRUE(*alone->report) << alone->report->error().to_string();
  ASSERT_EQ(alone->tokens.size(), kNewTokens);
  const std::string all_at_a = stage("A", 0, layers_);
  const std::string joint = stage("A", 0, upper_) + "," + stage("local", upper_, layers_);
  const std::string relay =
      stage("A", 0, lower_) + "," + stage("B", lower_, upper_) + "," + stage("local", upper_, layers_);
  const std::string pool = stage("local", 0, lower_) + "," + stage("A", lower_, layers_);
  const std::string crossed = stage("B", 0, upper_) + "," + stage("local", upper_, layers_);
  for (const std::string& text :
       {plan_text(all_at_a, all_here), plan_text(joint, all_here), plan_text(relay, all_here), plan_text(pool, pool),
        plan_text(all_at_a, stage("B", 0, layers_)), plan_text(joint, crossed), plan_text(all_here, crossed)}) {
    const auto split = finish(local, request_of(text));
    ASSERT_TRUE(*split->report) << text << ": " << split->report->error().to_string();
    EXPECT_EQ(split->tokens, alone->tokens) << text;
    EXPECT_TRUE(split->logits == alone->logits) << text;
    EXPECT_TRUE(split->recoveries.empty()) << text << ": " << split->recoveries.front().error.to_string();
    expect_no_leaks();
  }
}

TEST_P(KeptMemory, GoesOnFromAChunksBorderWhenItsSenderDies) {
  constexpr std::uint32_t kLongPrompt = 200;
  Node& local = add_node({"local"});
  const std::string all_here = stage("local", 0, layers_);
  const auto alone = finish(local, request_of(plan_text(all_here, all_here), kLongPrompt));
  ASSERT_TRUE(*alone->report);
  const std::string joint = stage("A", 0, upper_) + "," + stage("local", upper_, layers_);
  for (const std::string& prefill : {stage("A", 0, layers_), joint}) {
    // Slow enough to die in the middle: a chunk takes some ten milliseconds.
    add_node({.name = "A", .emulation = engine::EmulatedDevice{.teraflops = 0.0002, .gigabytes_per_second = 1000}});
    auto observer = std::make_unique<Observer>(*loop_);
    observer->after_prefilled = [&, killed = false](std::uint32_t tokens) mutable {
      if (tokens < 3 * kChunk || killed) return;
      killed = true;
      loop_->post([&] { nodes_.pop_back(); });
    };
    const auto request = model_of(local).submit(request_of(plan_text(prefill, all_here), kLongPrompt), *observer);
    ASSERT_TRUE(request) << request.error().to_string();
    wait_for(*observer);
    ASSERT_TRUE(*observer->report) << observer->report->error().to_string();
    ASSERT_EQ(observer->recoveries.size(), 1u);
    EXPECT_GE(observer->recoveries[0].salvaged_tokens, 3 * kChunk);
    EXPECT_EQ(observer->recoveries[0].salvaged_tokens % kChunk, 0u);
    EXPECT_EQ(observer->tokens, alone->tokens);
    EXPECT_TRUE(observer->logits == alone->logits);
    peers_.pop_back();
    expect_no_leaks();
  }
}

}  // namespace
}  // namespace baton::node
