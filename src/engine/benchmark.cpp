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

Result<void> run(Engine& engine, std::span<const Token> tokens, std::uint32_t chunk, WantedLogits last_chunk_logits,
                 WantedLogits other_logits) {
  const auto total = static_cast<std::uint32_t>(tokens.size());
  Sequence sequence = TRY(engine.reserve(total));
  std::vector<float> logits(engine.shape().vocabulary_size);
  for (std::uint32_t first = 0; first < total; first += chunk) {
    const std::uint32_t count = std::min(chunk, total - first);
    const BatchSpan span{.sequence = &sequence,
                         .first_position = first,
                         .token_count = count,
                         .logits = first + count == total ? last_chunk_logits : other_logits};
    const Batch batch{.layers = {0, engine.shape().layer_count},
                      .spans = std::span(&span, 1),
                      .tokens = tokens.subspan(first, count),
                      .hidden = {}};
    const Outputs outputs{.hidden = {},
                          .logits = span.logits == WantedLogits::kNone ? std::span<float>() : std::span(logits)};
    TRY(engine.forward(batch, outputs));
  }
  return {};
}

Result<Rate> measure(std::uint32_t tokens, std::uint32_t repetitions, const std::function<Result<void>()>& work) {
  std::vector<double> rates;
  for (std::uint32_t repetition = 0; repetition < repetitions; ++repetition) {
    const TimePoint start = now();
    TRY(work());
    rates.push_back(tokens / seconds(now() - start));
  }
  Rate rate;
  for (const double each : rates) rate.mean += each / repetitions;
  if (repetitions == 1) return rate;
  double squares = 0;
  for (const double each : rates) squares += (each - rate.mean) * (each - rate.mean);
  rate.deviation = std::sqrt(squares / (repetitions - 1));
  return rate;
}

}  // namespace

Result<Rate> prompt_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions) {
  if (tokens == 0 || repetitions == 0) return fail(ErrorCode::kInvalidArgument, "a benchmark of nothing");
  const auto prompt = arbitrary_tokens(engine, tokens);
  const auto work = [&] {
    return run(engine, prompt, engine.options().max_chunk_tokens, WantedLogits::kLast, WantedLogits::kNone);
  };
  TRY(work());
  return measure(tokens, repetitions, work);
}

Result<Rate> generated_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions) {
  if (tokens == 0 || repetitions == 0) return fail(ErrorCode::kInvalidArgument, "a benchmark of nothing");
  const auto text = arbitrary_tokens(engine, tokens);
  TRY(run(engine, std::span(text).first(1), 1, WantedLogits::kLast, WantedLogits::kLast));
  return measure(tokens, repetitions, [&] { return run(engine, text, 1, WantedLogits::kLast, WantedLogits::kLast); });
}

}  // namespace baton::engine
