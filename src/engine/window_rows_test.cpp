// Engines whose sliding-window layers keep a window, beside engines that keep everything: the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/cell_pool.h"
#include "engine/test_model.h"
#include "model/kv_rows.h"

namespace baton::engine {
namespace {

using test::make_engine;
using test::reference_model;
using test::reserve;
using test::run_chunks;
using test::run_span;
using test::some_tokens;

constexpr std::uint32_t kContext = 4096;
constexpr std::uint32_t kMaxChunk = 200;
// So many that windows would save nothing, and every layer keeps all.
constexpr std::uint32_t kManySequences = 1000;

EngineOptions options_for(std::uint32_t sequences, CacheType cache = CacheType::kF16) {
  EngineOptions options;
  options.threads = 1;
  options.context_tokens = kContext;
  options.max_chunk_tokens = kMaxChunk;
  options.cache_type = cache;
  options.sequences = sequences;
  return options;
}

std::uint32_t windowed_layer(const Engine& engine) {
  for (std::uint32_t layer = 0; layer < engine.shape().layer_count; ++layer) {
    if (engine.keeps_window(layer)) return layer;
  }
  ADD_FAILURE() << "no layer keeps a window";
  return 0;
}

class WindowsOf : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Engine> sliding(std::uint32_t sequences = 2, CacheType cache = CacheType::kF16) const {
    auto engine = make_engine(model_, options_for(sequences, cache));
    (void)windowed_layer(*engine);
    return engine;
  }
  std::unique_ptr<Engine> full(CacheType cache = CacheType::kF16) const {
    auto engine = make_engine(model_, options_for(kManySequences, cache));
    for (std::uint32_t layer = 0; layer < engine->shape().layer_count; ++layer) {
      EXPECT_FALSE(engine->keeps_window(layer));
    }
    return engine;
  }
  LayerRange all() const { return {0, model_->shape().layer_count}; }

  std::shared_ptr<const Model> model_ = reference_model(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Tiny, WindowsOf, testing::Values("tiny/gemma3", "tiny/gpt-oss"), [](const auto& test) {
  std::string name = std::strchr(test.param, '/') + 1;
  std::erase(name, '-');
  return name;
});

TEST_P(WindowsOf, GiveTheBitsOfAFullCacheHoweverLongThePrompt) {
  const auto windows = sliding();
  const auto whole = full();
  const auto tokens = some_tokens(*whole, 1650);
  const auto prompt = std::span(tokens).first(1600);
  const auto rest = std::span(tokens).subspan(1600);
  // All are longer than the window, and only the first begins where blocks do.
  for (const std::uint32_t chunk : {128U, 100U, kMaxChunk}) {
    Sequence a = reserve(*windows, 1650);
    Sequence b = reserve(*whole, 1650);
    ASSERT_EQ(run_chunks(*windows, a, prompt, chunk), run_chunks(*whole, b, prompt, chunk)) << chunk;
    ASSERT_EQ(run_chunks(*windows, a, rest, 1, 1600), run_chunks(*whole, b, rest, 1, 1600)) << chunk;
  }
}

TEST_P(WindowsOf, GiveTheBitsOfAFullCacheOfQ8) {
  if (model_->shape().key_head_width % 32 != 0) GTEST_SKIP() << "heads that do not fill a block";
  const auto windows = sliding(2, CacheType::kQ8_0);
  const auto whole = full(CacheType::kQ8_0);
  const auto tokens = some_tokens(*whole, 1500);
  Sequence a = reserve(*windows, 1500);
  Sequence b = reserve(*whole, 1500);
  EXPECT_EQ(run_chunks(*windows, a, tokens, 128), run_chunks(*whole, b, tokens, 128));
}

TEST_P(WindowsOf, GiveTheBitsOfAFullCacheInABatchOfSequencesOfUnlikeLengths) {
  const auto windows = sliding(3);
  const auto whole = full();
  const auto tokens = some_tokens(*whole, 1100);
  constexpr std::array<std::uint32_t, 3> kLengths = {5, 1100, 477};
  const auto decode = [&](Engine& engine) {
    std::vector<Sequence> sequences;
    std::vector<float> result;
    for (const std::uint32_t length : kLengths) {
      sequences.push_back(reserve(engine, length + 200));
      run_chunks(engine, sequences.back(), std::span(tokens).first(length), 128);
    }
    for (std::uint32_t step = 0; step < 150; ++step) {
      std::vector<BatchSpan> spans;
      std::vector<Token> next;
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        spans.push_back({&sequences[i], kLengths[i] + step, 1, WantedLogits::kLast});
        next.push_back(tokens[step]);
      }
      std::vector<float> logits(spans.size() * engine.shape().vocabulary_size);
      const auto done = engine.forward({.layers = all(), .spans = spans, .tokens = next, .hidden = {}}, {{}, logits});
      EXPECT_TRUE(done) << done.error().to_string();
      result.insert(result.end(), logits.begin(), logits.end());
    }
    return result;
  };
  EXPECT_EQ(decode(*windows), decode(*whole));
}

TEST_P(WindowsOf, CanBeTakenBackAsFarAsIsStated) {
  const auto windows = sliding();
  const auto whole = full();
  const auto tokens = some_tokens(*whole, 2000);
  Sequence a = reserve(*windows, 2000);
  Sequence b = reserve(*whole, 2000);
  run_chunks(*windows, a, std::span(tokens).first(900), 180);
  run_chunks(*whole, b, std::span(tokens).first(900), 180);
  std::uint32_t end = 900;
  // As a drafter does: a run of single tokens, most of them taken back.
  for (int round = 0; round < 12; ++round) {
    const auto drafted = std::span(tokens).subspan(end, model::kRollbackTokens);
    run_chunks(*windows, a, drafted, 1, end);
    run_chunks(*whole, b, drafted, 1, end);
    ASSERT_TRUE(windows->can_continue_at(a, all(), end + 1));
    const auto again = std::span(tokens).subspan(7, 50);
    ASSERT_EQ(run_span(*windows, a, end + 1, again), run_span(*whole, b, end + 1, again)) << end;
    end += 51;
  }
}

TEST_P(WindowsOf, SayWhatIsMissingWhenTheyAreTakenBackTooFarAndCanBeginAgain) {
  const auto windows = sliding();
  const auto tokens = some_tokens(*windows, 1500);
  Sequence sequence = reserve(*windows, 1500);
  const auto first = run_chunks(*windows, sequence, tokens, 180);
  EXPECT_TRUE(windows->can_continue_at(sequence, all(), 1500));
  EXPECT_FALSE(windows->can_continue_at(sequence, all(), 300));
  std::vector<float> logits(windows->shape().vocabulary_size);
  const BatchSpan span{&sequence, 300, 1, WantedLogits::kLast};
  const auto refused = windows->forward(
      {.layers = all(), .spans = {&span, 1}, .tokens = std::span(tokens).first(1), .hidden = {}}, {{}, logits});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotFound);
  for (const std::string_view part : {"from position 300", "keeps a window of", "begin again at position 0"}) {
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
  }
  EXPECT_EQ(run_chunks(*windows, sequence, tokens, 180), first);
}

TEST_P(WindowsOf, HaveNothingOfAPassThatWasStoppedBeforeThem) {
  class StopsAtOnce : public LayerObserver {
   public:
    Next layer_done(std::uint32_t) override { return Next::kStop; }
  };
  const auto windows = sliding();
  const auto tokens = some_tokens(*windows, 1000);
  Sequence sequence = reserve(*windows, 1000);
  run_chunks(*windows, sequence, std::span(tokens).first(900), 180);
  std::vector<float> logits(windows->shape().vocabulary_size);
  const BatchSpan span{&sequence, 900, 100, WantedLogits::kLast};
  StopsAtOnce observer;
  const auto stopped =
      windows->forward({.layers = all(), .spans = {&span, 1}, .tokens = std::span(tokens).subspan(900), .hidden = {}},
                       {{}, logits}, &observer);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  for (std::uint32_t layer = 1; layer < all().end; ++layer) {
    if (!windows->keeps_window(layer)) continue;
    EXPECT_FALSE(windows->view(sequence, layer, 900, 1)) << layer;
  }
  EXPECT_FALSE(windows->can_continue_at(sequence, all(), 1000));
  EXPECT_TRUE(windows->can_continue_at(sequence, all(), 900));
}

TEST_P(WindowsOf, DecodeToTheSameBitsFromKvThatCameInPieces) {
  const auto sender = full();
  const auto tokens = some_tokens(*sender, 1300);
  Sequence source = reserve(*sender, 1300);
  run_chunks(*sender, source, std::span(tokens).first(1200), 150);
  const auto rest = std::span(tokens).subspan(1200);
  const auto expected = run_chunks(*sender, source, rest, 1, 1200);

  const auto receiver = sliding();
  const KvLayout& layout = sender->kv_layout(0);
  const auto send = [&](Sequence& to, std::uint32_t layer, std::uint32_t first, std::uint32_t count) {
    Bytes k(std::size_t{count} * layout.k_row_bytes);
    Bytes v(std::size_t{count} * layout.v_row_bytes);
    ASSERT_TRUE(sender->read_kv(source, layer, first, count, k, v));
    ASSERT_TRUE(receiver->write_kv(to, layer, first, count, k, v));
  };
  // Whole; without what lies before the last window; in one piece that is longer than what is kept.
  for (const std::uint32_t dropped : {0U, 600U, 900U}) {
    Sequence target = reserve(*receiver, 1300);
    for (std::uint32_t layer = all().begin; layer < all().end; ++layer) {
      const std::uint32_t begin = receiver->keeps_window(layer) ? dropped : 0;
      for (std::uint32_t at = begin; at < 1200; at += 300) send(target, layer, at, 300);
    }
    ASSERT_TRUE(receiver->can_continue_at(target, all(), 1200));
    EXPECT_EQ(receiver->can_continue_at(target, all(), 900), dropped < 900);
    EXPECT_EQ(run_chunks(*receiver, target, rest, 1, 1200), expected) << dropped;
  }
  Sequence target = reserve(*receiver, 1300);
  for (std::uint32_t layer = all().begin; layer < all().end; ++layer) send(target, layer, 0, 1200);
  EXPECT_EQ(run_chunks(*receiver, target, rest, 1, 1200), expected);
}

TEST_P(WindowsOf, IgnoreWhatAnEarlierSequenceLeftInTheirCells) {
  const auto windows = sliding(1);
  const auto whole = full();
  const std::uint32_t layer = windowed_layer(*windows);
  const auto tokens = some_tokens(*windows, 600);
  {
    // F16 NaNs and infinities, as a hostile peer could send.
    Sequence dirty = reserve(*windows, kContext);
    Bytes poison(std::size_t{kContext} * windows->kv_layout(0).k_row_bytes);
    for (std::size_t at = 0; at < poison.size(); at += 2) poison[at + 1] = std::byte(at % 4 == 0 ? 0x7e : 0x7c);
    ASSERT_TRUE(windows->write_kv(dirty, layer, 0, kContext, poison, poison));
  }
  Sequence a = reserve(*windows, 600);
  Sequence b = reserve(*whole, 600);
  EXPECT_EQ(run_chunks(*windows, a, tokens, 90), run_chunks(*whole, b, tokens, 90));
}

TEST_P(WindowsOf, GoOnFromACopiedPrefixWhereTheyCan) {
  const auto windows = sliding();
  const auto tokens = some_tokens(*windows, 1100);
  Sequence first = reserve(*windows, 1100);
  run_chunks(*windows, first, std::span(tokens).first(1024), 128);
  Sequence second = reserve(*windows, 1100);
  EXPECT_EQ(windows->copy_prefix(first, second, 256).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(windows->copy_prefix(first, second, 1024));
  const auto rest = std::span(tokens).subspan(1024);
  EXPECT_EQ(run_chunks(*windows, second, rest, 16, 1024), run_chunks(*windows, first, rest, 16, 1024));
}

TEST_P(WindowsOf, GoOnWhereTheyAreAfterTheirSequenceHasGrown) {
  const auto windows = sliding();
  const auto tokens = some_tokens(*windows, 1100);
  Sequence whole = reserve(*windows, 1100);
  const auto expected = run_chunks(*windows, whole, tokens, 100);
  whole = Sequence();
  Sequence sequence = reserve(*windows, 200);
  run_chunks(*windows, sequence, std::span(tokens).first(200), 100);
  ASSERT_TRUE(windows->resize(sequence, 1100));
  const auto rest = run_chunks(*windows, sequence, std::span(tokens).subspan(200), 100, 200);
  EXPECT_EQ(rest, std::vector<float>(expected.end() - static_cast<std::ptrdiff_t>(rest.size()), expected.end()));
  windows->forget_from(sequence, 1000);
  EXPECT_TRUE(windows->can_continue_at(sequence, all(), 1000)) << "the window behind is there";
  EXPECT_FALSE(windows->can_continue_at(sequence, all(), 1001)) << "nothing was written there";
  windows->forget_from(sequence, 100);
  EXPECT_EQ(run_chunks(*windows, sequence, tokens, 100), expected) << "it begins anew";
}

TEST(Windows, AreCountedInTheEnginesMemoryAndItsRoom) {
  const auto model = reference_model("tiny/gemma3");
  const auto windows = make_engine(model, options_for(2));
  const auto whole = make_engine(model, options_for(kManySequences));
  const model::ModelShape& shape = windows->shape();
  std::uint32_t sliding_layers = 0;
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer)
    sliding_layers += windows->keeps_window(layer) ? 1 : 0;
  ASSERT_GT(sliding_layers, 0U);
  const std::uint64_t row_bytes = windows->kv_layout(0).k_row_bytes + windows->kv_layout(0).v_row_bytes;
  const std::uint64_t rows = model::window_rows(8, kMaxChunk);
  EXPECT_EQ(windows->stats().kv_bytes,
            row_bytes * (sliding_layers * 2 * rows + (shape.layer_count - sliding_layers) * kContext));
  EXPECT_EQ(whole->stats().kv_bytes, row_bytes * shape.layer_count * kContext);

  const Sequence one = reserve(*windows, 1000);
  {
    const Sequence two = reserve(*windows, 1000);
    const auto three = windows->reserve(1000);
    ASSERT_FALSE(three);
    EXPECT_EQ(three.error().code, ErrorCode::kNoCapacity);
    EXPECT_NE(three.error().message.find("sliding windows"), std::string::npos) << three.error().message;
    EXPECT_EQ(windows->free_cells(), kContext - 2 * 1024) << "what was taken before the refusal was given back";
  }
  const Sequence short_one = reserve(*windows, 256);
  const Sequence another = reserve(*windows, 256);
  EXPECT_TRUE(short_one && another) << "short sequences take no whole window";
}

TEST(Windows, RefuseRowsThatTheyDoNotHave) {
  const auto engine = make_engine(reference_model("tiny/gemma3"), options_for(2));
  const std::uint32_t layer = windowed_layer(*engine);
  const auto tokens = some_tokens(*engine, 1500);
  Sequence sequence = reserve(*engine, 1500);
  run_chunks(*engine, sequence, tokens, 180);
  Bytes k(engine->kv_layout(0).k_row_bytes);
  Bytes v(engine->kv_layout(0).v_row_bytes);
  EXPECT_TRUE(engine->view(sequence, layer, 1499, 1));
  EXPECT_FALSE(engine->view(sequence, layer, 0, 1));
  EXPECT_FALSE(engine->view(sequence, layer, 1500, 1)) << "nobody wrote it";
  EXPECT_TRUE(engine->read_kv(sequence, layer, 1499, 1, k, v));
  EXPECT_EQ(engine->read_kv(sequence, layer, 0, 1, k, v).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace baton::engine
