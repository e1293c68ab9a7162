// For tests of this room and those above: small reference models and runs over them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "model/synth.h"

namespace baton::engine::test {

// A file of tests/reference without its ending, such as "golden/llama-dense" or "tiny/gpt-oss".
inline std::shared_ptr<const Model> reference_model(const std::string& name) {
  auto model = Model::open(std::string(BATON_SOURCE_DIR) + "/tests/reference/" + name + ".gguf");
  EXPECT_TRUE(model.has_value()) << model.error().to_string();
  return model.value_or(nullptr);
}

// A random model of so many small layers, made as that file.
inline std::shared_ptr<const Model> synthetic_model(const std::filesystem::path& file, std::uint32_t layers) {
  model::SynthOptions options;
  options.embd = 128;
  options.layers = layers;
  options.heads = 4;
  options.kv_heads = 2;
  options.ff = 256;
  options.vocab = 400;
  options.type = model::TensorType::kF16;
  options.threads = 1;
  const auto made = model::synthesize(options, file);
  EXPECT_TRUE(made.has_value()) << made.error().to_string();
  return Model::open(file).value_or(nullptr);
}

inline std::unique_ptr<Engine> make_engine(const std::shared_ptr<const Model>& model, const EngineOptions& options) {
  auto engine = Engine::create(model, options);
  EXPECT_TRUE(engine.has_value()) << engine.error().to_string();
  return engine ? std::move(*engine) : nullptr;
}

// On the CPU, whatever else the machine has: most tests compare bits, which only one device promises.
inline EngineOptions small_options() {
  EngineOptions options;
  options.device = "CPU";
  options.threads = 2;
  options.context_tokens = 4096;
  return options;
}

inline Sequence reserve(Engine& engine, std::uint32_t tokens) {
  auto sequence = engine.reserve(tokens);
  EXPECT_TRUE(sequence.has_value()) << sequence.error().to_string();
  return sequence ? std::move(*sequence) : Sequence();
}

// Tokens that repeat with a long period, all in the vocabulary.
inline std::vector<Token> some_tokens(const Engine& engine, std::uint32_t count) {
  std::vector<Token> tokens(count);
  for (std::uint32_t index = 0; index < count; ++index) {
    tokens[index] = static_cast<Token>((index * 37 + index * index * 11 + 5) % engine.shape().vocabulary_size);
  }
  return tokens;
}

// Logits of every token (or the last) of one span, through all layers, at the given borders between ranges.
inline std::vector<float> run_span(Engine& engine, Sequence& sequence, std::uint32_t first,
                                   std::span<const Token> tokens, WantedLogits logits = WantedLogits::kAll,
                                   const std::vector<std::uint32_t>& borders = {}) {
  const auto count = static_cast<std::uint32_t>(tokens.size());
  std::vector<std::uint32_t> ends = borders;
  ends.push_back(engine.shape().layer_count);
  std::vector<float> hidden;
  std::vector<float> result;
  std::uint32_t begin = 0;
  for (const std::uint32_t end : ends) {
    const bool last = end == engine.shape().layer_count;
    const BatchSpan span{.sequence = &sequence,
                         .first_position = first,
                         .token_count = count,
                         .logits = last ? logits : WantedLogits::kNone};
    std::vector<float> next(last ? 0 : std::size_t{count} * engine.shape().embedding_width);
    if (last) result.resize(std::size_t{logit_rows(std::span(&span, 1))} * engine.shape().vocabulary_size);
    const Batch batch{.layers = {begin, end},
                      .spans = std::span(&span, 1),
                      .tokens = begin == 0 ? tokens : std::span<const Token>(),
                      .hidden = hidden};
    const auto done = engine.forward(batch, {.hidden = next, .logits = last ? std::span(result) : std::span<float>()});
    EXPECT_TRUE(done.has_value()) << done.error().to_string();
    hidden = std::move(next);
    begin = end;
  }
  return result;
}

// The same in chunks; logits of every token, one row after the other.
inline std::vector<float> run_chunks(Engine& engine, Sequence& sequence, std::span<const Token> tokens,
                                     std::uint32_t chunk, std::uint32_t first = 0,
                                     const std::vector<std::uint32_t>& borders = {}) {
  std::vector<float> all;
  for (std::size_t at = 0; at < tokens.size(); at += chunk) {
    const auto part = tokens.subspan(at, std::min<std::size_t>(chunk, tokens.size() - at));
    const auto logits =
        run_span(engine, sequence, first + static_cast<std::uint32_t>(at), part, WantedLogits::kAll, borders);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

// mean((ours - theirs)^2) / mean(theirs^2)
inline double nmse(std::span<const float> ours, std::span<const float> theirs) {
  EXPECT_EQ(ours.size(), theirs.size());
  double error = 0;
  double power = 0;
  for (std::size_t index = 0; index < std::min(ours.size(), theirs.size()); ++index) {
    const double difference = static_cast<double>(ours[index]) - theirs[index];
    error += difference * difference;
    power += static_cast<double>(theirs[index]) * theirs[index];
  }
  return power > 0 ? error / power : 1.0;
}

}  // namespace baton::engine::test
