#include "engine/benchmark.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "base/clock.h"

namespace baton::engine {

namespace {

// Which tokens they are changes nothing but the cache lines of the embedding table.
std::vector<Token> arbitrary_tokens(const Engine& engine, std::uint32_t count) {
  std::minstd_rand random(1);
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = static_cast<Token>(random() % engine.shape().vocabulary_size);
  return tokens;
}

// Sequences that are `depth` tokens long whenever a run begins: a run writes over what the one before has left.
class Workload {
 public:
  static Result<Workload> create(Engine& engine, const BenchmarkRun& run) {
    if (run.tokens == 0 || run.sequences == 0 || run.repetitions == 0) {
      return fail(ErrorCode::kInvalidArgument, "a benchmark of nothing");
    }
    if (run.sequences > engine.options().max_chunk_tokens) {
      return fail(ErrorCode::kInvalidArgument, "more sequences than a pass has rows; try a larger --chunk");
    }
    Workload work(engine, run);
    for (std::uint32_t index = 0; index < run.sequences; ++index) {
      work.sequences_.push_back(TRY(engine.reserve(run.depth + run.tokens)));
      if (work.must_read()) TRY(work.read(work.sequences_.back(), 0, run.depth, WantedLogits::kNone));
    }
    return work;
  }

  Result<void> read_prompts() {
    for (Sequence& sequence : sequences_) TRY(read(sequence, run_.depth, run_.tokens, WantedLogits::kLast));
    return {};
  }

  Result<void> generate(std::uint32_t tokens) {
    for (std::uint32_t step = 0; step < tokens; ++step) TRY(decode(run_.depth + step));
    return {};
  }

  Result<Rate> rate(const std::function<Result<void>()>& work) const {
    std::vector<double> rates;
    for (std::uint32_t repetition = 0; repetition < run_.repetitions; ++repetition) {
      const TimePoint start = now();
      TRY(work());
      rates.push_back(run_.tokens * static_cast<double>(run_.sequences) / seconds(now() - start));
    }
    Rate rate;
    for (const double each : rates) rate.mean += each / run_.repetitions;
    if (rates.size() == 1) return rate;
    double squares = 0;
    for (const double each : rates) squares += (each - rate.mean) * (each - rate.mean);
    rate.deviation = std::sqrt(squares / (run_.repetitions - 1));
    return rate;
  }

 private:
  Workload(Engine& engine, const BenchmarkRun& run)
      : engine_(&engine),
        run_(run),
        tokens_(arbitrary_tokens(engine, run.depth + run.tokens)),
        logits_(std::size_t{run.sequences} * engine.shape().vocabulary_size) {}

  // Whether the run can only begin behind tokens that were read.
  bool must_read() const {
    if (run_.depth == 0 || run_.content == CellContent::kRead) return run_.depth > 0;
    const model::ModelShape& shape = engine_->shape();
    const auto keeps_state = [](const model::LayerShape& layer) { return layer.memory.keeps_state(); };
    return std::ranges::any_of(shape.layers, keeps_state) ||
           !engine_->can_continue_at(sequences_.back(), {0, shape.layer_count}, run_.depth);
  }

  Result<void> pass(std::span<const BatchSpan> spans, std::span<const Token> tokens) {
    const Batch batch{.layers = {0, engine_->shape().layer_count}, .spans = spans, .tokens = tokens, .hidden = {}};
    const std::size_t logits = std::size_t{logit_rows(spans)} * engine_->shape().vocabulary_size;
    return engine_->forward(batch, {.hidden = {}, .logits = std::span(logits_).first(logits)});
  }

  Result<void> read(Sequence& sequence, std::uint32_t first, std::uint32_t count, WantedLogits last_logits) {
    const std::uint32_t end = first + count;
    for (std::uint32_t at = first; at < end; at += engine_->options().max_chunk_tokens) {
      const std::uint32_t tokens = std::min(engine_->options().max_chunk_tokens, end - at);
      const BatchSpan span{.sequence = &sequence,
                           .first_position = at,
                           .token_count = tokens,
                           .logits = at + tokens == end ? last_logits : WantedLogits::kNone};
      TRY(pass(std::span(&span, 1), std::span(tokens_).subspan(at, tokens)));
    }
    return {};
  }

  Result<void> decode(std::uint32_t position) {
    std::vector<BatchSpan> spans;
    for (Sequence& sequence : sequences_) {
      spans.push_back({.sequence = &sequence,
                       .first_position = position,
                       .token_count = 1,
                       .logits = WantedLogits::kAll,
                       .rows = SpanRows::kAsSteps});
    }
    const std::vector<Token> tokens(spans.size(), tokens_[position]);
    return pass(spans, tokens);
  }

  Engine* engine_;
  BenchmarkRun run_;
  std::vector<Token> tokens_;
  std::vector<float> logits_;
  std::vector<Sequence> sequences_;
};

}  // namespace

Result<Rate> prompt_tokens_per_second(Engine& engine, const BenchmarkRun& run) {
  Workload work = TRY(Workload::create(engine, run));
  for (std::uint32_t run_before = 0; run_before < run.warm_ups; ++run_before) TRY(work.read_prompts());
  return work.rate([&] { return work.read_prompts(); });
}

Result<Rate> generated_tokens_per_second(Engine& engine, const BenchmarkRun& run) {
  Workload work = TRY(Workload::create(engine, run));
  if (run.warm_ups > 0) TRY(work.generate(1));
  return work.rate([&] { return work.generate(run.tokens); });
}

}  // namespace baton::engine
