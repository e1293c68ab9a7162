// Guessing must change nothing but the time: the same request with and without, token by token and bit by bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/temporary_folder.h"
#include "engine/test_model.h"
#include "model/synth.h"
#include "node/node.h"

namespace baton::node {
namespace {

constexpr std::uint32_t kNewTokens = 48;
constexpr auto kDeadline = std::chrono::seconds(60);

class Collector : public RequestObserver {
 public:
  explicit Collector(net::EventLoop& loop) : loop_(loop) {}
  void on_prefilled(std::uint32_t, std::uint32_t) override {}
  void on_logits(std::span<const float> row) override { logits.emplace_back(row.begin(), row.end()); }
  void on_token(Token) override {}
  void on_recovery(const Recovery&) override {}
  void on_finished(Result<RequestReport> result) override {
    report = std::move(result);
    loop_.stop();
  }
  std::vector<std::vector<float>> logits;
  std::optional<Result<RequestReport>> report;

 private:
  net::EventLoop& loop_;
};

struct Outcome {
  RequestReport report;
  std::vector<std::vector<float>> logits;
};

class Machine {
 public:
  Machine(std::shared_ptr<const engine::Model> model, engine::CacheType cache, unsigned threads)
      : folder_(TemporaryFolder::create("baton-test").value()), loop_(net::EventLoop::create().value()) {
    engine::EngineOptions options;
    options.device = "CPU";
    options.threads = threads;
    options.context_tokens = 1024;
    options.max_chunk_tokens = 128;
    options.cache_type = cache;
    layers_ = model->shape().layer_count;
    const auto identity = net::Identity::load_or_create(folder_.path() / "key").value();
    auto executor = std::make_unique<engine::Executor>(engine::Engine::create(std::move(model), options).value(), 64);
    node_ = Node::create(*loop_, identity, std::move(executor), {}, {}).value();
  }

  Outcome run(RequestOptions options, Speculation speculation) {
    options.speculation = speculation;
    options.max_new_tokens = kNewTokens;
    options.chunk_tokens = 128;
    options.plan = plan::Plan::single(layers_);
    Collector collector(*loop_);
    const auto request = node_->submit(std::move(options), collector);
    EXPECT_TRUE(request) << request.error().to_string();
    net::Timer timer(*loop_);
    timer.start(Duration(kDeadline), [&] { loop_->stop(); });
    loop_->run();
    EXPECT_TRUE(collector.report && *collector.report);
    if (!collector.report || !*collector.report) return {};
    return {**collector.report, std::move(collector.logits)};
  }

  std::uint32_t vocabulary() const { return node_->executor().engine().shape().vocabulary_size; }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<net::EventLoop> loop_;
  std::unique_ptr<Node> node_;
  std::uint32_t layers_ = 0;
};

// A phrase several times over, so that there is something to guess from; `tokens` in all.
std::vector<Token> repeating_prompt(std::uint32_t vocabulary, std::uint32_t tokens) {
  std::vector<Token> prompt;
  for (std::uint32_t index = 0; index < tokens; ++index) {
    prompt.push_back(static_cast<Token>((3 + index % 13 * 29) % vocabulary));
  }
  return prompt;
}

// Few tokens to choose from, so that even a text of chance repeats itself.
engine::SamplerOptions drawn(std::uint32_t top_k) {
  engine::SamplerOptions sampler;
  sampler.temperature = 1;
  sampler.top_k = top_k;
  sampler.seed = 11;
  return sampler;
}

void expect_same_text(Machine& machine, std::uint32_t prompt_tokens) {
  engine::SamplerOptions penalised = drawn(3);
  penalised.repeat_penalty = 1.1F;
  penalised.frequency_penalty = 0.1F;
  std::uint32_t checks = 0;
  for (const engine::SamplerOptions& sampler : {engine::SamplerOptions(), drawn(2), drawn(0), penalised}) {
    RequestOptions options;
    options.prompt = repeating_prompt(machine.vocabulary(), prompt_tokens);
    options.sampler = sampler;
    const Outcome plain = machine.run(options, Speculation::kOff);
    const Outcome guessed = machine.run(options, Speculation::kLookup);
    EXPECT_EQ(plain.report.tokens.size(), kNewTokens);
    EXPECT_EQ(guessed.report.tokens, plain.report.tokens) << "temperature " << sampler.temperature;
    EXPECT_TRUE(guessed.logits == plain.logits) << "temperature " << sampler.temperature;
    EXPECT_EQ(plain.report.speculation.checks, 0u);
    EXPECT_EQ(plain.report.speculation.how, "off");
    checks += guessed.report.speculation.checks;
  }
  EXPECT_GT(checks, 0u) << "nothing was guessed, so nothing was tested";
}

class SameText : public testing::TestWithParam<std::string> {};

TEST_P(SameText, WithGuessesAsWithout) {
  Machine machine(engine::test::reference_model(GetParam()), engine::CacheType::kF16, 2);
  expect_same_text(machine, 60);
}

INSTANTIATE_TEST_SUITE_P(Reference, SameText,
                         testing::Values("golden/llama-dense", "golden/text-llama", "tiny/gpt-oss", "tiny/gemma3",
                                         "tiny/qwen3moe", "tiny/qwen2-fused"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::ranges::replace(name, '/', '_');
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

class SameTextOfType : public testing::TestWithParam<model::TensorType> {};

// A context long enough that ggml splits a single row's attention among threads, and not that of several rows.
TEST_P(SameTextOfType, WithGuessesAsWithout) {
  const auto folder = TemporaryFolder::create("baton-test").value();
  model::SynthOptions options;
  options.embd = 256;
  options.layers = 3;
  options.heads = 4;
  options.kv_heads = 2;
  options.ff = 512;
  options.vocab = 400;
  options.type = GetParam();
  options.threads = 1;
  ASSERT_TRUE(model::synthesize(options, folder.path() / "model.gguf"));
  const auto model = engine::Model::open(folder.path() / "model.gguf").value();
  for (const auto cache : {engine::CacheType::kF16, engine::CacheType::kQ8_0}) {
    Machine machine(model, cache, 2);
    expect_same_text(machine, 520);
  }
}

INSTANTIATE_TEST_SUITE_P(Synthetic, SameTextOfType,
                         testing::Values(model::TensorType::kF16, model::TensorType::kBF16, model::TensorType::kQ8_0,
                                         model::TensorType::kQ4_0),
                         [](const auto& instance) { return std::string(model::facts(instance.param).name); });

}  // namespace
}  // namespace baton::node
