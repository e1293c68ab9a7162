// Guessing must change nothing but the time: the same request with and without, token by token and bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <format>
#include <functional>

#include "base/temporary_folder.h"
#include "engine/test_model.h"
#include "model/synth.h"
#include "node/node.h"

namespace baton::node {
namespace {

constexpr std::uint32_t kGuessedTokens = 48;
constexpr auto kGuessDeadline = std::chrono::seconds(60);

class TextCollector : public RequestObserver {
 public:
  explicit TextCollector(net::EventLoop& loop) : loop_(loop) {}
  void on_prefilled(std::uint32_t, std::uint32_t) override {}
  void on_logits(std::span<const float> row) override { logits.emplace_back(row.begin(), row.end()); }
  void on_token(Token) override {
    ++tokens;
    if (when_tokens) when_tokens(tokens);
  }
  void on_recovery(const Recovery&) override {}
  void on_finished(Result<RequestReport> result) override {
    report = std::move(result);
    loop_.stop();
  }
  std::vector<std::vector<float>> logits;
  std::optional<Result<RequestReport>> report;
  std::size_t tokens = 0;
  std::function<void(std::size_t)> when_tokens;

 private:
  net::EventLoop& loop_;
};

struct Outcome {
  RequestReport report;
  std::vector<std::vector<float>> logits;
};

class Machine {
 public:
  Machine(std::shared_ptr<const engine::Model> model, engine::CacheType cache, unsigned threads,
          std::shared_ptr<const engine::Model> draft = nullptr)
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
    NodeOptions node_options;
    node_options.kept_prefixes = KeptPrefixes::kNone;  // so that every text is computed as a whole
    std::unique_ptr<engine::Engine> guessing;
    if (draft) {
      guessing = engine::Engine::create(std::move(draft), options).value();
      // Every look at the clock a millisecond later: what a pass takes does not depend on the machine then.
      node_options.surroundings.now = [ticks = std::make_shared<std::atomic<int>>(0)] {
        return TimePoint() + std::chrono::milliseconds(++*ticks);
      };
    }
    node_ = Node::create(*loop_, identity, std::move(node_options)).value();
    node_->add({.executor = std::move(executor), .digest = {}, .draft = std::move(guessing)});
  }

  Outcome run(RequestOptions options, Speculation speculation) {
    options.speculation = speculation;
    options.max_new_tokens = kGuessedTokens;
    options.chunk_tokens = 128;
    options.plan = plan::Plan::single(layers_);
    TextCollector collector(*loop_);
    const auto request = loaded().submit(std::move(options), collector);
    EXPECT_TRUE(request) << request.error().to_string();
    net::Timer timer(*loop_);
    timer.start(Duration(kGuessDeadline), [&] { loop_->stop(); });
    loop_->run();
    EXPECT_TRUE(collector.report && *collector.report);
    if (!collector.report || !*collector.report) return {};
    return {**collector.report, std::move(collector.logits)};
  }

  // Cancels a drafted request, by the loop's next turn, once it has so many tokens; the error it ended with.
  std::optional<ErrorCode> cancelled_after(std::size_t tokens, RequestOptions options) {
    options.speculation = Speculation::kDraft;
    options.max_new_tokens = kGuessedTokens;
    options.chunk_tokens = 128;
    options.plan = plan::Plan::single(layers_);
    TextCollector collector(*loop_);
    std::shared_ptr<Request> request;
    collector.when_tokens = [&](std::size_t count) {
      if (count == tokens) loop_->post([&] { request->cancel(); });
    };
    request = loaded().submit(std::move(options), collector).value();
    net::Timer timer(*loop_);
    timer.start(Duration(kGuessDeadline), [&] { loop_->stop(); });
    loop_->run();
    if (!collector.report || *collector.report) return std::nullopt;
    return collector.report->error().code;
  }

  std::uint32_t vocabulary() const { return node_->models().front()->engine().shape().vocabulary_size; }

 private:
  LoadedModel& loaded() { return *node_->models().front(); }

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

engine::SamplerOptions warm(std::uint64_t seed) {
  engine::SamplerOptions sampler;
  sampler.temperature = 0.8F;
  sampler.seed = seed;
  return sampler;
}

// The guesses of all texts together.
SpeculationReport expect_same_text(Machine& machine, std::uint32_t prompt_tokens, Speculation how) {
  engine::SamplerOptions penalised = drawn(3);
  penalised.repeat_penalty = 1.1F;
  penalised.frequency_penalty = 0.1F;
  SpeculationReport all;
  for (const engine::SamplerOptions& sampler :
       {engine::SamplerOptions(), drawn(2), drawn(0), warm(1), warm(2), penalised}) {
    RequestOptions options;
    options.prompt = repeating_prompt(machine.vocabulary(), prompt_tokens);
    options.sampler = sampler;
    const Outcome plain = machine.run(options, Speculation::kOff);
    const Outcome guessed = machine.run(options, how);
    EXPECT_EQ(plain.report.tokens.size(), kGuessedTokens);
    EXPECT_EQ(guessed.report.tokens, plain.report.tokens) << "temperature " << sampler.temperature;
    EXPECT_TRUE(guessed.logits == plain.logits) << "temperature " << sampler.temperature;
    EXPECT_EQ(plain.report.speculation.checks, 0u);
    EXPECT_EQ(plain.report.speculation.how, "off");
    all.checks += guessed.report.speculation.checks;
    all.guessed_tokens += guessed.report.speculation.guessed_tokens;
    all.right_tokens += guessed.report.speculation.right_tokens;
  }
  EXPECT_GT(all.checks, 0u) << "nothing was guessed, so nothing was tested";
  return all;
}

class SameText : public testing::TestWithParam<std::string> {};

TEST_P(SameText, WithGuessesAsWithout) {
  Machine machine(engine::test::reference_model(GetParam()), engine::CacheType::kF16, 2);
  expect_same_text(machine, 60, Speculation::kLookup);
}

// By the model itself: it draws what the checker draws, whatever the sampler, but where two tokens nearly tie: it reads
// the prompt in other chunks. The prompt is longer than a window.
TEST_P(SameText, WithItselfAsADraftAlmostAllOfWhoseGuessesAreRight) {
  const auto model = engine::test::reference_model(GetParam());
  Machine machine(model, engine::CacheType::kF16, 1, model);
  const SpeculationReport all = expect_same_text(machine, 300, Speculation::kAuto);
  EXPECT_GE(all.right_tokens, all.guessed_tokens * 8 / 10);
  EXPECT_GT(all.right_tokens, 6 * kGuessedTokens / 2);
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
    expect_same_text(machine, 520, Speculation::kLookup);
  }
}

INSTANTIATE_TEST_SUITE_P(Synthetic, SameTextOfType,
                         testing::Values(model::TensorType::kF16, model::TensorType::kBF16, model::TensorType::kQ8_0,
                                         model::TensorType::kQ4_0),
                         [](const auto& instance) { return std::string(model::facts(instance.param).name); });

class DraftedText : public testing::Test {
 protected:
  std::shared_ptr<const engine::Model> synthetic(std::uint64_t seed, model::TensorType type = model::TensorType::kF16) {
    model::SynthOptions options;
    options.embd = 128;
    options.layers = 3;
    options.heads = 4;
    options.kv_heads = 2;
    options.ff = 256;
    options.vocab = 400;
    options.type = type;
    options.seed = seed;
    options.threads = 1;
    const auto path = folder_.path() / std::format("{}-{}.gguf", seed, model::facts(type).name);
    EXPECT_TRUE(model::synthesize(options, path));
    return engine::Model::open(path).value();
  }

  TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
};

TEST_F(DraftedText, IsTheSameWhereSomeGuessesAreRight) {
  Machine machine(synthetic(1), engine::CacheType::kF16, 1, synthetic(1, model::TensorType::kQ4_0));
  const SpeculationReport all = expect_same_text(machine, 60, Speculation::kDraft);
  EXPECT_GT(all.right_tokens, 6u);
  EXPECT_LT(all.right_tokens, all.guessed_tokens);
}

TEST_F(DraftedText, IsSoonNotGuessedAtWhereNoGuessIsRight) {
  Machine machine(synthetic(1), engine::CacheType::kF16, 1, synthetic(2));
  const SpeculationReport all = expect_same_text(machine, 60, Speculation::kAuto);
  // How soon depends on what passes cost, and so on what else the machine does.
  EXPECT_LT(all.guessed_tokens, 6 * kGuessedTokens / 4);
}

TEST_F(DraftedText, GuessesNothingForAModelThatCannotTakeTokensBack) {
  const auto hybrid = engine::test::reference_model("tiny/granitehybrid");
  Machine machine(hybrid, engine::CacheType::kF16, 1, engine::test::reference_model("golden/llama-dense"));
  RequestOptions options;
  options.prompt = repeating_prompt(machine.vocabulary(), 60);
  const Outcome outcome = machine.run(options, Speculation::kDraft);
  EXPECT_EQ(outcome.report.speculation.how, "off");
  EXPECT_NE(outcome.report.speculation.why.find("cannot take tokens back"), std::string::npos);
}

// In the middle of a guess, or between two.
TEST_F(DraftedText, EndsWhenItIsCancelled) {
  const auto model = synthetic(1);
  Machine machine(model, engine::CacheType::kF16, 1, model);
  for (const std::size_t tokens : {1U, 2U, 3U, 10U}) {
    RequestOptions options;
    options.prompt = repeating_prompt(machine.vocabulary(), 200);
    EXPECT_EQ(machine.cancelled_after(tokens, std::move(options)), ErrorCode::kCancelled) << tokens;
  }
}

}  // namespace
}  // namespace baton::node
