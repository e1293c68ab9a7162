// Chooses the next token from a model's logits.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"

namespace baton::engine {

// The defaults choose greedily and change nothing. The meaning of each field is that of llama.cpp's samplers.
struct SamplerOptions {
  float temperature = 0.0F;           // 0: the most likely token; else logits are divided by it
  std::uint32_t top_k = 0;            // keep the k best; 0: all
  float top_p = 1.0F;                 // keep the fewest best tokens whose probabilities sum to this; 1: all
  float min_p = 0.0F;                 // drop tokens less likely than this times the best; 0: none
  float repeat_penalty = 1.0F;        // divides positive and multiplies negative logits of tokens seen; 1: none
  float presence_penalty = 0.0F;      // subtracted once from a token seen
  float frequency_penalty = 0.0F;     // subtracted once per time a token was seen
  std::uint32_t penalty_window = 64;  // how many of the last tokens count as seen; 0: none
  std::uint32_t penalty_from = 0;     // tokens before this position never count as seen
  std::unordered_map<Token, float> logit_bias{};  // added to a token's logit; -infinity forbids it
  std::uint64_t seed = 0;
};

// Random bits that depend on nothing but the arguments, so that a run continued on another machine draws what the first
// would have drawn. Counter-based: Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
// (2011), with the seed as key and the position as counter.
std::array<std::uint32_t, 4> random_block(std::uint64_t seed, std::uint64_t position);
// A number in [0, 1) made of the first 53 of them.
double uniform_at(std::uint64_t seed, std::uint64_t position);

// Immutable apart from scratch memory: a Sampler belongs to one thread.
// What it chooses depends only on options, logits, position and history.
class Sampler {
 public:
  // kInvalidArgument for a number out of its range, naming it.
  static Result<Sampler> create(SamplerOptions options);

  const SamplerOptions& options() const { return options_; }

  // The token that follows at `position` (the index the token will have in its sequence).
  // `logits` has one finite or -infinite number per token of the vocabulary; `history` is the sequence so far, prompt
  // included, of which the last penalty_window tokens count. Steps, in order: bias, penalties, top_k, top_p, min_p,
  // temperature, draw. Filters look at probabilities before the temperature. Equal logits are ordered by lower id.
  // kInternal for NaN or +infinity (a fault in the engine), kInvalidArgument where every token is forbidden.
  Result<Token> sample(std::span<const float> logits, std::uint64_t position, std::span<const Token> history);
  // The same among the tokens whose bit is set, as text::TokenFilter gives them.
  Result<Token> sample(std::span<const float> logits, std::uint64_t position, std::span<const Token> history,
                       std::span<const std::uint64_t> allowed);

 private:
  struct Candidate {
    Token token;
    float logit;
  };

  explicit Sampler(SamplerOptions options) : options_(std::move(options)) {}
  Result<void> adjust(std::span<const float> logits, std::uint64_t position, std::span<const Token> history);
  Result<Token> choose(std::uint64_t position);
  void penalise(std::span<float> logits, std::span<const Token> history);
  void filter();
  void keep_top_p();
  Token draw(std::uint64_t position) const;
  std::unexpected<Error> all_forbidden(std::uint64_t position) const;

  SamplerOptions options_;
  // Scratch, reused between calls.
  std::vector<float> adjusted_;
  std::vector<Token> seen_;
  std::vector<Candidate> candidates_;
};

}  // namespace baton::engine
