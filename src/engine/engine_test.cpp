#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <format>
#include <limits>
#include <thread>
#include <vector>

#include "base/temporary_folder.h"
#include "engine/cell_pool.h"
#include "engine/test_model.h"
#include "model/synth.h"
#include "model/tensor_type.h"

namespace baton::engine {
namespace {

using test::make_engine;
using test::nmse;
using test::reference_model;
using test::reserve;
using test::run_chunks;
using test::run_span;
using test::small_options;
using test::some_tokens;

class EngineOf : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model_ = reference_model(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Golden, EngineOf,
                         testing::Values("golden/llama-dense", "tiny/qwen3", "tiny/gemma3", "tiny/gpt-oss",
                                         "tiny/deepseek2", "tiny/lfm2", "tiny/granitehybrid"),
                         [](const auto& test) {
                           std::string name = std::strchr(test.param, '/') + 1;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(EngineOf, GivesTheSameBitsHoweverItsLayersAreSplit) {
  const auto engine = make_engine(model_, small_options());
  const auto tokens = some_tokens(*engine, 300);
  Sequence whole = reserve(*engine, 300);
  const auto expected = run_chunks(*engine, whole, std::span(tokens).first(290), 64);
  const auto expected_decode = run_chunks(*engine, whole, std::span(tokens).subspan(290), 1, 290);
  for (std::uint32_t border = 1; border < engine->shape().layer_count; ++border) {
    Sequence split = reserve(*engine, 300);
    EXPECT_EQ(run_chunks(*engine, split, std::span(tokens).first(290), 64, 0, {border}), expected) << border;
    EXPECT_EQ(run_chunks(*engine, split, std::span(tokens).subspan(290), 1, 290, {border}), expected_decode) << border;
  }
  Sequence all = reserve(*engine, 300);
  EXPECT_EQ(run_chunks(*engine, all, std::span(tokens).first(290), 64, 0, {1, 2}), expected);
}

TEST_P(EngineOf, GivesTheSameBitsInTwoEnginesOfHalfTheLayersEach) {
  const auto whole = make_engine(model_, small_options());
  const std::uint32_t layers = whole->shape().layer_count;
  EngineOptions lower = small_options();
  lower.layers = LayerRange{0, 1};
  EngineOptions upper = small_options();
  upper.layers = LayerRange{1, layers};
  const auto first = make_engine(model_, lower);
  const auto second = make_engine(model_, upper);
  EXPECT_TRUE(first->holds({0, 1}));
  EXPECT_FALSE(first->holds({0, 2}));
  EXPECT_FALSE(second->holds({0, layers})) << "it has no embedding";
  EXPECT_TRUE(second->holds({1, layers}));

  const auto tokens = some_tokens(*whole, 40);
  Sequence sequence = reserve(*whole, 40);
  const auto expected = run_span(*whole, sequence, 0, tokens);

  Sequence a = reserve(*first, 40);
  Sequence b = reserve(*second, 40);
  std::vector<float> hidden(tokens.size() * whole->shape().embedding_width);
  std::vector<float> logits(expected.size());
  BatchSpan span{.sequence = &a, .first_position = 0, .token_count = 40};
  ASSERT_TRUE(first->forward({.layers = {0, 1}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}}, {hidden, {}}));
  span.sequence = &b;
  span.logits = WantedLogits::kAll;
  ASSERT_TRUE(
      second->forward({.layers = {1, layers}, .spans = {&span, 1}, .tokens = {}, .hidden = hidden}, {{}, logits}));
  EXPECT_EQ(logits, expected);

  // The half that is missing can be loaded later.
  ASSERT_TRUE(first->ensure_layers({0, layers}));
  Sequence later = reserve(*first, 40);
  EXPECT_EQ(run_span(*first, later, 0, tokens), expected);
}

TEST_P(EngineOf, GivesTheSameBitsWhereverItsCellsLie) {
  const auto engine = make_engine(model_, small_options());
  const auto tokens = some_tokens(*engine, 70);
  Sequence first = reserve(*engine, 100);
  const auto expected = run_chunks(*engine, first, tokens, 16);
  Sequence blocker = reserve(*engine, 600);
  Sequence second = reserve(*engine, 500);
  EXPECT_EQ(run_chunks(*engine, second, tokens, 16), expected);
}

TEST_P(EngineOf, DecodesToTheSameBitsFromKvThatCameFromAnotherEngine) {
  const auto sender = make_engine(model_, small_options());
  const auto receiver = make_engine(model_, small_options());
  const auto tokens = some_tokens(*sender, 60);
  Sequence source = reserve(*sender, 60);
  Sequence spacer = reserve(*receiver, 10);
  Sequence target = reserve(*receiver, 60);
  run_chunks(*sender, source, std::span(tokens).first(50), 16);

  for (std::uint32_t layer = 0; layer < sender->shape().layer_count; ++layer) {
    const KvLayout& layout = sender->kv_layout(layer);
    Bytes k(std::size_t{30} * layout.k_row_bytes);
    Bytes v(std::size_t{30} * layout.v_row_bytes);
    ASSERT_TRUE(sender->read_kv(source, layer, 0, 30, k, v));
    ASSERT_TRUE(receiver->write_kv(target, layer, 0, 30, k, v));
    const auto view = sender->view(source, layer, 30, 20);
    ASSERT_TRUE(view);
    ASSERT_TRUE(receiver->write_kv(target, layer, 30, 20, view->k, view->v));
    const auto there = receiver->view(target, layer, 0, 30);
    ASSERT_TRUE(there);
    EXPECT_TRUE(std::ranges::equal(there->k, k));
    EXPECT_TRUE(std::ranges::equal(there->v, v));
    const std::uint32_t state_width = sender->shape().layers[layer].memory.state_width;
    if (state_width == 0) continue;
    Bytes state(state_width * sizeof(float));
    ASSERT_TRUE(sender->read_state(source, layer, state));
    ASSERT_TRUE(receiver->write_state(target, layer, 50, state));
  }
  const auto rest = std::span(tokens).subspan(50);
  EXPECT_EQ(run_chunks(*receiver, target, rest, 1, 50), run_chunks(*sender, source, rest, 1, 50));
}

TEST_P(EngineOf, DecodesSeveralSequencesInOneBatchAsItDoesAlone) {
  // Another shape of batch may change the last bits, and no more.
  constexpr double kLastBits = 3e-6;
  const auto engine = make_engine(model_, small_options());
  const std::array<std::uint32_t, 3> lengths = {5, 300, 40};
  const auto tokens = some_tokens(*engine, 301);
  std::vector<Sequence> alone;
  std::vector<Sequence> together;
  std::vector<float> expected;
  std::vector<BatchSpan> spans;
  std::vector<Token> next;
  together.reserve(lengths.size());
  for (const std::uint32_t length : lengths) {
    alone.push_back(reserve(*engine, length + 1));
    together.push_back(reserve(*engine, length + 1));
    run_chunks(*engine, alone.back(), std::span(tokens).first(length), 128);
    run_chunks(*engine, together.back(), std::span(tokens).first(length), 128);
    const auto logits = run_span(*engine, alone.back(), length, std::span(tokens).subspan(length, 1));
    expected.insert(expected.end(), logits.begin(), logits.end());
    spans.push_back({&together.back(), length, 1, WantedLogits::kLast});
    next.push_back(tokens[length]);
  }
  std::vector<float> logits(expected.size());
  const Batch batch{.layers = {0, engine->shape().layer_count}, .spans = spans, .tokens = next, .hidden = {}};
  ASSERT_TRUE(engine->forward(batch, {{}, logits}));
  EXPECT_LT(nmse(logits, expected), kLastBits);

  // A prompt's chunk may share a batch with them: rows come in the order of spans.
  Sequence afresh = reserve(*engine, 301);
  run_chunks(*engine, afresh, std::span(tokens).first(300), 128);
  Sequence prompt = reserve(*engine, 20);
  Sequence prompt_alone = reserve(*engine, 20);
  const std::vector<BatchSpan> mixed = {{&afresh, 300, 1, WantedLogits::kLast}, {&prompt, 0, 20, WantedLogits::kLast}};
  std::vector<Token> mixed_tokens = {tokens[300]};
  mixed_tokens.insert(mixed_tokens.end(), tokens.begin(), tokens.begin() + 20);
  const std::size_t vocabulary = engine->shape().vocabulary_size;
  std::vector<float> mixed_logits(2 * vocabulary);
  const Batch mixed_batch{.layers = batch.layers, .spans = mixed, .tokens = mixed_tokens, .hidden = {}};
  ASSERT_TRUE(engine->forward(mixed_batch, {{}, mixed_logits}));
  EXPECT_LT(nmse(std::span(mixed_logits).first(vocabulary), std::span(expected).subspan(vocabulary, vocabulary)),
            kLastBits);
  const auto prompt_logits = run_span(*engine, prompt_alone, 0, std::span(tokens).first(20), WantedLogits::kLast);
  EXPECT_LT(nmse(std::span(mixed_logits).subspan(vocabulary), prompt_logits), kLastBits);
}

TEST_P(EngineOf, GivesTheSameLastRowWhetherOthersAreWantedOrNot) {
  const auto engine = make_engine(model_, small_options());
  const auto tokens = some_tokens(*engine, 33);
  Sequence a = reserve(*engine, 33);
  Sequence b = reserve(*engine, 33);
  const auto all = run_span(*engine, a, 0, tokens, WantedLogits::kAll);
  const auto last = run_span(*engine, b, 0, tokens, WantedLogits::kLast);
  EXPECT_LT(nmse(last, std::span(all).last(last.size())), 1e-6);
}

TEST_P(EngineOf, WritesTheSameKvWhenNoLogitsAreWanted) {
  const auto engine = make_engine(model_, small_options());
  const auto tokens = some_tokens(*engine, 33);
  Sequence a = reserve(*engine, 33);
  Sequence b = reserve(*engine, 33);
  run_span(*engine, a, 0, tokens, WantedLogits::kAll);
  run_span(*engine, b, 0, tokens, WantedLogits::kNone);
  for (std::uint32_t layer = 0; layer < engine->shape().layer_count; ++layer) {
    EXPECT_TRUE(std::ranges::equal(engine->view(a, layer, 0, 33)->k, engine->view(b, layer, 0, 33)->k)) << layer;
    EXPECT_TRUE(std::ranges::equal(engine->view(a, layer, 0, 33)->v, engine->view(b, layer, 0, 33)->v)) << layer;
  }
}

TEST_P(EngineOf, StaysCloseWithAQ8Cache) {
  if (model_->shape().expert_count > 0) GTEST_SKIP() << "a router near a tie makes any difference a large one";
  if (model_->shape().key_head_width % 32 != 0) GTEST_SKIP() << "its heads do not fill a block";
  const auto exact = make_engine(model_, small_options());
  EngineOptions options = small_options();
  options.cache_type = CacheType::kQ8_0;
  const auto quantised = make_engine(model_, options);
  EXPECT_EQ(quantised->kv_layout(0).k_row_bytes, exact->kv_layout(0).k_width / 32 * 34);
  const auto tokens = some_tokens(*exact, 48);
  Sequence a = reserve(*exact, 48);
  Sequence b = reserve(*quantised, 48);
  const double difference = nmse(run_chunks(*quantised, b, tokens, 16), run_chunks(*exact, a, tokens, 16));
  EXPECT_LT(difference, 1e-3);
  EXPECT_GT(difference, 0) << "it is not quantised at all";
}

TEST_P(EngineOf, IgnoresWhatAnEarlierSequenceLeftInItsCells) {
  EngineOptions options = small_options();
  options.context_tokens = kCellBlock;
  const auto engine = make_engine(model_, options);
  // Enough for ggml to work in tiles, which multiply hidden cells by zero instead of skipping them.
  const auto tokens = some_tokens(*engine, 90);
  std::vector<float> expected;
  {
    Sequence clean = reserve(*engine, 90);
    expected = run_chunks(*engine, clean, tokens, 80);
  }
  {
    // F16 NaNs and infinities, as a hostile peer could send.
    Sequence dirty = reserve(*engine, 90);
    for (std::uint32_t layer = 0; layer < engine->shape().layer_count; ++layer) {
      const KvLayout& layout = engine->kv_layout(layer);
      Bytes poison(std::size_t{kCellBlock} * std::max(layout.k_row_bytes, layout.v_row_bytes));
      for (std::size_t at = 0; at < poison.size(); at += 2) poison[at + 1] = std::byte(at % 4 == 0 ? 0x7e : 0x7c);
      const auto rows = [&](std::uint32_t bytes) { return std::span(poison).first(std::size_t{kCellBlock} * bytes); };
      ASSERT_TRUE(engine->write_kv(dirty, layer, 0, kCellBlock, rows(layout.k_row_bytes), rows(layout.v_row_bytes)));
      if (!engine->shape().layers[layer].memory.keeps_state()) continue;
      const Bytes nan(engine->shape().layers[layer].memory.state_width * sizeof(float), std::byte{0x7f});
      ASSERT_TRUE(engine->write_state(dirty, layer, 90, nan));
    }
  }
  Sequence again = reserve(*engine, 90);
  EXPECT_EQ(run_chunks(*engine, again, tokens, 80), expected);
}

TEST_P(EngineOf, GoesOnFromACopiedPrefix) {
  const auto engine = make_engine(model_, small_options());
  const auto tokens = some_tokens(*engine, 40);
  Sequence first = reserve(*engine, 40);
  run_chunks(*engine, first, std::span(tokens).first(32), 16);
  Sequence second = reserve(*engine, 40);
  ASSERT_TRUE(engine->copy_prefix(first, second, 32));
  const auto rest = std::span(tokens).subspan(32);
  EXPECT_EQ(run_chunks(*engine, second, rest, 16, 32), run_chunks(*engine, first, rest, 16, 32));
}

class Recorder : public LayerObserver {
 public:
  explicit Recorder(std::uint32_t stop_after = std::numeric_limits<std::uint32_t>::max()) : stop_after_(stop_after) {}
  Next layer_done(std::uint32_t layer) override {
    layers.push_back(layer);
    return layer >= stop_after_ ? Next::kStop : Next::kContinue;
  }
  std::vector<std::uint32_t> layers;

 private:
  std::uint32_t stop_after_;
};

TEST(Engine, TellsItsObserverOfEachLayerInOrderAndStopsWhenTold) {
  const auto engine = make_engine(reference_model("golden/llama-dense"), small_options());
  const auto tokens = some_tokens(*engine, 8);
  Sequence sequence = reserve(*engine, 8);
  const BatchSpan span{.sequence = &sequence, .first_position = 0, .token_count = 8};
  const Batch batch{.layers = {0, 3}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}};
  Recorder all;
  ASSERT_TRUE(engine->forward(batch, {}, &all));
  EXPECT_EQ(all.layers, (std::vector<std::uint32_t>{0, 1, 2}));
  Recorder stopping(1);
  const auto stopped = engine->forward(batch, {}, &stopping);
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(stopping.layers, (std::vector<std::uint32_t>{0, 1}));
}

// The K and V an observer is shown must not change afterwards.
class KvCopier : public LayerObserver {
 public:
  KvCopier(const Engine& engine, const Sequence& sequence, std::uint32_t count)
      : engine_(engine), sequence_(sequence), count_(count) {}
  Next layer_done(std::uint32_t layer) override {
    const auto view = engine_.view(sequence_, layer, 0, count_);
    copies.emplace_back(view->k.begin(), view->k.end());
    return Next::kContinue;
  }
  std::vector<Bytes> copies;

 private:
  const Engine& engine_;
  const Sequence& sequence_;
  std::uint32_t count_;
};

TEST(Engine, ShowsItsObserverKvThatIsFinal) {
  const auto engine = make_engine(reference_model("tiny/gemma3"), small_options());
  const auto tokens = some_tokens(*engine, 20);
  Sequence sequence = reserve(*engine, 20);
  KvCopier copier(*engine, sequence, 20);
  const BatchSpan span{.sequence = &sequence, .first_position = 0, .token_count = 20};
  ASSERT_TRUE(engine->forward({.layers = {0, 7}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}}, {}, &copier));
  ASSERT_EQ(copier.copies.size(), 7U);
  for (std::uint32_t layer = 0; layer < 7; ++layer) {
    EXPECT_TRUE(std::ranges::equal(copier.copies[layer], engine->view(sequence, layer, 0, 20)->k));
    EXPECT_TRUE(std::ranges::any_of(copier.copies[layer], [](std::byte byte) { return byte != std::byte{0}; }));
  }
}

TEST(Engine, RefusesToReserveMoreThanIsFreeAndFreesWhatIsDropped) {
  EngineOptions options = small_options();
  options.context_tokens = 1000;
  const auto engine = make_engine(reference_model("golden/llama-dense"), options);
  EXPECT_EQ(engine->options().context_tokens, 1024U);
  {
    const Sequence first = reserve(*engine, 1);
    EXPECT_EQ(first.capacity(), 256U);
    const Sequence second = reserve(*engine, 700);
    EXPECT_EQ(engine->free_cells(), 0U);
    const auto refused = engine->reserve(1);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kNoCapacity);
  }
  EXPECT_EQ(engine->free_cells(), 1024U);
  EXPECT_EQ(engine->reserve(1025).error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(engine->reserve(std::numeric_limits<std::uint32_t>::max()).error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(engine->reserve(0).error().code, ErrorCode::kInvalidArgument);
  Sequence moved = reserve(*engine, 1024);
  moved = Sequence();
  EXPECT_EQ(engine->free_cells(), 1024U) << "assigning over a sequence frees it";
}

TEST(Engine, RefusesABatchThatMakesNoSense) {
  const auto engine = make_engine(reference_model("golden/llama-dense"), small_options());
  const auto stranger = make_engine(reference_model("golden/llama-dense"), small_options());
  Sequence sequence = reserve(*engine, 256);
  Sequence foreign = reserve(*stranger, 256);
  const std::vector<Token> good = {1, 2, 3};
  const std::vector<Token> high = {1, 128, 3};
  const std::vector<Token> negative = {1, -1, 3};
  const std::size_t width = engine->shape().embedding_width;
  std::vector<float> hidden(3 * width);
  std::vector<float> logits(engine->shape().vocabulary_size);
  const auto code = [&](BatchSpan span, LayerRange layers, std::span<const Token> tokens, std::span<const float> in,
                        Outputs outputs) {
    const auto result =
        engine->forward({.layers = layers, .spans = {&span, 1}, .tokens = tokens, .hidden = in}, outputs);
    return result ? ErrorCode::kInternal : result.error().code;
  };
  const BatchSpan span{&sequence, 0, 3, WantedLogits::kNone};
  const BatchSpan wanting{&sequence, 0, 3, WantedLogits::kLast};
  constexpr auto kInvalid = ErrorCode::kInvalidArgument;
  EXPECT_EQ(code(span, {0, 4}, good, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {2, 2}, good, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {3, 1}, good, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {0, 3}, high, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {0, 3}, negative, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {0, 3}, std::span(good).first(2), {}, {}), kInvalid);
  EXPECT_EQ(code(span, {0, 3}, good, hidden, {}), kInvalid);
  EXPECT_EQ(code(span, {1, 3}, good, hidden, {}), kInvalid);
  EXPECT_EQ(code(span, {1, 3}, {}, std::span(hidden).first(width), {}), kInvalid);
  EXPECT_EQ(code(span, {0, 2}, good, {}, {}), kInvalid);
  EXPECT_EQ(code(wanting, {0, 2}, good, {}, {hidden, {}}), kInvalid);
  EXPECT_EQ(code(wanting, {0, 3}, good, {}, {}), kInvalid);
  EXPECT_EQ(code(span, {0, 3}, good, {}, {{}, logits}), kInvalid);
  EXPECT_EQ(code({nullptr, 0, 3, WantedLogits::kNone}, {0, 3}, good, {}, {}), kInvalid);
  EXPECT_EQ(code({&foreign, 0, 3, WantedLogits::kNone}, {0, 3}, good, {}, {}), kInvalid);
  EXPECT_EQ(code({&sequence, 254, 3, WantedLogits::kNone}, {0, 3}, good, {}, {}), kInvalid);
  EXPECT_EQ(code({&sequence, 0xFFFFFFFF, 3, WantedLogits::kNone}, {0, 3}, good, {}, {}), kInvalid);
  EXPECT_EQ(code({&sequence, 0, 0, WantedLogits::kNone}, {0, 3}, {}, {}, {}), kInvalid);
  const std::vector<Token> long_text(513, 1);
  Sequence roomy = reserve(*engine, 600);
  EXPECT_EQ(code({&roomy, 0, 513, WantedLogits::kNone}, {0, 3}, long_text, {}, {}), kInvalid);
  const std::array twice = {BatchSpan{&sequence, 0, 1, WantedLogits::kNone},
                            BatchSpan{&sequence, 1, 2, WantedLogits::kNone}};
  EXPECT_FALSE(engine->forward({.layers = {0, 3}, .spans = twice, .tokens = good, .hidden = {}}, {}));
  EXPECT_TRUE(engine->forward({.layers = {0, 3}, .spans = {&span, 1}, .tokens = good, .hidden = {}}, {}));
}

TEST(Engine, RefusesKvOutsideASequence) {
  const auto engine = make_engine(reference_model("golden/llama-dense"), small_options());
  Sequence sequence = reserve(*engine, 256);
  const KvLayout& layout = engine->kv_layout(0);
  Bytes k(std::size_t{2} * layout.k_row_bytes);
  Bytes v(std::size_t{2} * layout.v_row_bytes);
  EXPECT_TRUE(engine->read_kv(sequence, 0, 254, 2, k, v));
  EXPECT_FALSE(engine->read_kv(sequence, 0, 255, 2, k, v));
  EXPECT_FALSE(engine->read_kv(sequence, 0, 0xFFFFFFFF, 2, k, v));
  EXPECT_FALSE(engine->read_kv(sequence, 3, 0, 2, k, v));
  EXPECT_FALSE(engine->write_kv(sequence, 0, 0, 3, k, v));
  EXPECT_FALSE(engine->write_kv(sequence, 0, 0, 2, k, std::span(v).first(1)));
  EXPECT_FALSE(engine->view(sequence, 0, 200, 57));
  EXPECT_FALSE(engine->view(Sequence(), 0, 0, 1));
}

TEST(Engine, NamesTheDevicesThereAreWhenAskedForAnother) {
  EngineOptions options = small_options();
  options.device = "Abacus9";
  const auto engine = Engine::create(reference_model("golden/llama-dense"), options);
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().code, ErrorCode::kNotFound);
  EXPECT_NE(engine.error().message.find("CPU"), std::string::npos) << engine.error().message;
  options.device = "CPU";
  EXPECT_TRUE(Engine::create(reference_model("golden/llama-dense"), options));
}

TEST(Engine, RefusesOptionsThatMakeNoSense) {
  const auto model = reference_model("golden/llama-dense");
  EngineOptions context = small_options();
  context.context_tokens = 0;
  EngineOptions chunk = small_options();
  chunk.max_chunk_tokens = 0;
  EngineOptions layers = small_options();
  layers.layers = LayerRange{1, 4};
  EngineOptions rate = small_options();
  rate.emulation = EmulatedDevice{.teraflops = 0, .gigabytes_per_second = 1};
  for (const EngineOptions& options : {context, chunk, layers, rate}) {
    EXPECT_EQ(Engine::create(model, options).error().code, ErrorCode::kInvalidArgument);
  }
  EngineOptions narrow = small_options();
  narrow.cache_type = CacheType::kQ8_0;
  EXPECT_EQ(Engine::create(reference_model("golden/text-llama"), narrow).error().code, ErrorCode::kUnsupported)
      << "heads of 16 do not fill a block of 32";
}

TEST(Engine, CountsItsMemory) {
  const auto model = reference_model("golden/llama-dense");
  const auto engine = make_engine(model, small_options());
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.kv_bytes, 3U * 4096 * 2 * 128 * 2);
  EXPECT_GT(stats.mapped_weight_bytes + stats.copied_weight_bytes + stats.repacked_weight_bytes, 2'900'000U);
}

TEST(Engine, PacesAnEmulatedDeviceToItsLayersCost) {
  EngineOptions options = small_options();
  // So slow that real work is nothing beside it: 8 tokens of about a million weights at 1 GFLOPS are 16 ms.
  options.emulation = EmulatedDevice{.teraflops = 0.001, .gigabytes_per_second = 1000};
  const auto engine = make_engine(reference_model("golden/llama-dense"), options);
  EXPECT_TRUE(engine->emulated());
  const auto tokens = some_tokens(*engine, 8);
  Sequence sequence = reserve(*engine, 8);
  run_span(*engine, sequence, 0, tokens, WantedLogits::kLast);
  const std::array runs = {model::TokenRun{0, 8}};
  double expected = model::head_cost(engine->shape(), 1).flops;
  for (std::uint32_t layer = 0; layer < 3; ++layer) expected += model::layer_flops(engine->shape(), layer, runs);
  const auto report = engine->emulation_report();
  ASSERT_TRUE(report);
  EXPECT_NEAR(seconds(report->emulated), expected / 1e9, 1e-6);
  engine->reset_emulation_report();
  EXPECT_EQ(engine->emulation_report()->emulated, Duration{});
}

// A random model of this type and shape on disk; nothing where the type cannot have that shape, or can only be made
// with statistics of real activations.
std::shared_ptr<const Model> synthetic_model(model::SynthOptions options, model::TensorType type) {
  options.type = type;
  options.threads = 2;
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "model.gguf";
  if (!model::synthesize(options, path)) return nullptr;
  auto opened = Model::open(path);
  EXPECT_TRUE(opened.has_value()) << opened.error().to_string();
  return opened.value_or(nullptr);
}

// 42 million quantised weights: too many for passes of few rows to wait until they are packed.
std::shared_ptr<const Model> model_to_pack() {
  return synthetic_model({.embd = 1024, .layers = 4, .heads = 16, .kv_heads = 4, .ff = 2560, .vocab = 323},
                         model::TensorType::kQ8_0);
}

TEST(Engine, IsPackedWhenItIsThereUnlessItMayComputeWithout) {
  const auto model = model_to_pack();
  ASSERT_NE(model, nullptr);
  EngineOptions packed = small_options();
  packed.prefill_pack = PrefillPack::kBf16;
  const auto engine = make_engine(model, packed);
  const PackingProgress progress = engine->packing();
  EXPECT_EQ(progress.packed_bytes, progress.total_bytes);
  EXPECT_EQ(engine->stats().packed_weight_bytes, progress.total_bytes);
  if (progress.total_bytes == 0) GTEST_SKIP() << "nothing is packed on this processor";

  const auto tokens = some_tokens(*engine, 300);
  Sequence first = reserve(*engine, 300);
  const auto expected = run_chunks(*engine, first, tokens, 100);
  EngineOptions eager = packed;
  eager.while_packing = WhilePacking::kComputeWithout;
  const auto early = make_engine(model, eager);
  Sequence second = reserve(*early, 300);
  // Its first chunk may or may not find packed weights: the result is the same but for rounding.
  EXPECT_LT(nmse(run_chunks(*early, second, tokens, 100), expected), 1e-3);
  Sequence third = reserve(*early, 300);
  // A chunk of many rows waits, and from then on there is nothing left to wait for.
  run_span(*early, third, 0, std::span(tokens).first(200));
  Sequence fourth = reserve(*early, 300);
  EXPECT_EQ(run_chunks(*early, fourth, tokens, 100), expected);
}

TEST(Engine, PacksNothingWhenItIsToldSo) {
  const auto model = model_to_pack();
  ASSERT_NE(model, nullptr);
  EngineOptions options = small_options();
  options.prefill_pack = PrefillPack::kOff;
  EXPECT_EQ(make_engine(model, options)->packing().total_bytes, 0U);
}

TEST(Model, ThatDoesNotExistIsAnErrorThatSaysSo) {
  const auto missing = Model::open("/nonexistent.gguf");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
}

TEST(Devices, IncludeTheCpu) {
  const auto devices = list_devices();
  EXPECT_TRUE(std::ranges::any_of(devices, [](const DeviceInfo& device) { return device.kind == DeviceKind::kCpu; }));
  EXPECT_GE(usable_cores(), 1U);
}

#ifdef __linux__
TEST(Devices, SayOfTheCpuWhatIsStillFree) {
  const auto devices = list_devices();
  const auto cpu = std::ranges::find(devices, DeviceKind::kCpu, &DeviceInfo::kind);
  ASSERT_NE(cpu, devices.end());
  EXPECT_GT(cpu->memory_free_bytes, 0U);
  // The system itself has some.
  EXPECT_LT(cpu->memory_free_bytes, cpu->memory_total_bytes);
}
#endif

}  // namespace
}  // namespace baton::engine
