// For tests: several nodes of one small model in one process, on one loop, over real TLS connections on the loopback
// interface.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/temporary_folder.h"
#include "engine/test_model.h"
#include "node/node.h"

namespace baton::node::test {

inline constexpr std::uint32_t kLayers = 6;
inline constexpr std::uint32_t kChunk = 16;
inline constexpr std::uint32_t kPromptTokens = 70;  // four whole chunks and a part
inline constexpr std::uint32_t kNewTokens = 12;
inline constexpr auto kDeadline = std::chrono::seconds(30);

class Cluster : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_.emplace(TemporaryFolder::create("baton-test").value());
    model_ = engine::test::synthetic_model(folder_->path() / "model.gguf", kLayers);
  }
  static void TearDownTestSuite() {
    model_.reset();
    folder_.reset();
  }

  void SetUp() override { loop_ = net::EventLoop::create().value(); }
  // Nodes end before the loop that they live on.
  void TearDown() override {
    nodes_.clear();
    loop_.reset();
  }

  struct NodeSpec {
    std::string name;
    std::uint32_t context_tokens = 512;
    std::uint32_t max_chunk_tokens = kChunk;
    std::optional<LayerRange> layers = std::nullopt;
    engine::CacheType cache = engine::CacheType::kF16;
    Sha256 digest = {};
    std::optional<engine::EmulatedDevice> emulation = std::nullopt;
    std::size_t early_hidden_bytes = kEarlyHiddenBytes;
    std::size_t kept_bytes = kKeptBytes;
    std::optional<net::LinkEmulation> link = std::nullopt;
    KeptPrefixes kept_prefixes = KeptPrefixes::kNone;  // so that every request computes all of its prompt
    std::shared_ptr<const engine::Model> draft = nullptr;
  };

  Node& add_node(const NodeSpec& spec) {
    const auto identity = net::Identity::load_or_create(folder_->path() / ("key-" + spec.name)).value();
    engine::EngineOptions options;
    options.device = "CPU";
    options.threads = 1;
    options.context_tokens = spec.context_tokens;
    options.max_chunk_tokens = spec.max_chunk_tokens;
    options.cache_type = spec.cache;
    options.layers = spec.layers;
    options.emulation = spec.emulation;
    auto executor = std::make_unique<engine::Executor>(engine::Engine::create(model_, options).value(), 64);
    NodeOptions node_options;
    node_options.listen = net::Endpoint::parse_listen("127.0.0.1:0").value();
    node_options.is_trusted = [](const net::Fingerprint&) { return true; };
    node_options.early_hidden_bytes = spec.early_hidden_bytes;
    node_options.kept_bytes = spec.kept_bytes;
    node_options.emulate_link = spec.link;
    node_options.kept_prefixes = spec.kept_prefixes;
    std::unique_ptr<engine::Engine> draft;
    if (spec.draft) draft = engine::Engine::create(spec.draft, options).value();
    nodes_.push_back(Node::create(*loop_, identity, std::move(node_options)).value());
    nodes_.back()->add({.executor = std::move(executor), .digest = spec.digest, .draft = std::move(draft)});
    peers_.push_back({spec.name, nodes_.back()->endpoint()->to_string(), identity.fingerprint().to_string()});
    return *nodes_.back();
  }

  // Each has one.
  static LoadedModel& model_of(Node& node) { return *node.models().front(); }

  RequestOptions request(std::string_view plan) const {
    RequestOptions options;
    for (std::uint32_t i = 0; i < kPromptTokens; ++i)
      options.prompt.push_back(static_cast<Token>(300 + (i * 37) % 100));
    options.max_new_tokens = kNewTokens;
    options.chunk_tokens = kChunk;
    options.plan = plan::parse_plan(plan, peers_, kLayers).value();
    return options;
  }

  class Observer : public RequestObserver {
   public:
    explicit Observer(net::EventLoop& loop) : loop_(loop) {}
    void on_prefilled(std::uint32_t done, std::uint32_t) override {
      prefilled = std::max(prefilled, done);
      if (after_prefilled) after_prefilled(done);
    }
    void on_logits(std::span<const float> row) override { logits.emplace_back(row.begin(), row.end()); }
    void on_token(Token token) override {
      tokens.push_back(token);
      if (after_token) after_token(tokens.size());
    }
    void on_recovery(const Recovery& recovery) override { recoveries.push_back(recovery); }
    void on_finished(Result<RequestReport> result) override {
      report = std::move(result);
      loop_.stop();
    }

    std::vector<Token> tokens;
    std::vector<std::vector<float>> logits;
    std::vector<Recovery> recoveries;
    std::uint32_t prefilled = 0;
    std::optional<Result<RequestReport>> report;
    std::function<void(std::size_t)> after_token;
    std::function<void(std::uint32_t)> after_prefilled;

   private:
    net::EventLoop& loop_;
  };

  // Runs the loop until the request has ended, or the deadline: then there is no report.
  void wait_for(Observer& observer) {
    net::Timer timer(*loop_);
    timer.start(Duration(kDeadline), [&] { loop_->stop(); });
    if (!observer.report) loop_->run();
    ASSERT_TRUE(observer.report) << "the request did not end";
  }

  std::unique_ptr<Observer> finish(Node& node, RequestOptions options) {
    auto observer = std::make_unique<Observer>(*loop_);
    const auto request = model_of(node).submit(std::move(options), *observer);
    EXPECT_TRUE(request) << request.error().to_string();
    wait_for(*observer);
    return observer;
  }

  void run_loop_for(Duration duration) {
    net::Timer timer(*loop_);
    timer.start(duration, [&] { loop_->stop(); });
    loop_->run();
  }

  // Runs the loop until it is so, but no longer than the deadline.
  bool comes(const std::function<bool()>& condition) {
    const TimePoint deadline = now() + kDeadline;
    while (!condition() && now() < deadline) run_loop_for(std::chrono::milliseconds(5));
    return condition();
  }
  // Nobody uses any cells but for what is kept of ended requests, on any node.
  void expect_settled() {
    EXPECT_TRUE(comes([&] {
      return std::ranges::all_of(nodes_, [](const auto& node) {
        return model_of(*node).room().cells == model_of(*node).engine().options().context_tokens;
      });
    }));
  }

  // Everything given back, on every node, soon after the last request.
  void expect_no_leaks() {
    const auto clean = [&] {
      return std::ranges::all_of(nodes_, [](const auto& node) {
        const engine::Engine& engine = model_of(*node).engine();
        return node->transfers() == 0 && engine.free_cells() == engine.options().context_tokens;
      });
    };
    EXPECT_TRUE(comes(clean));
  }

  static inline std::optional<TemporaryFolder> folder_;
  static inline std::shared_ptr<const engine::Model> model_;
  std::unique_ptr<net::EventLoop> loop_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<plan::NodeRef> peers_;
};

inline std::string plan_text(std::string_view prefill, std::string_view decode) {
  return std::format("prefill={};decode={}", prefill, decode);
}

}  // namespace baton::node::test
