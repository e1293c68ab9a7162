#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <limits>

namespace baton::engine {

namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Result<void> check_range(std::string_view name, float value, float least, float most) {
  if (value >= least && value <= most) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::format("{} is {}, but must be between {} and {}", name, value, least, most));
}

}  // namespace

std::array<std::uint32_t, 4> random_block(std::uint64_t seed, std::uint64_t position) {
  return philox({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0},
                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
}

double uniform_at(std::uint64_t seed, std::uint64_t position) {
  const auto block = random_block(seed, position);
  const std::uint64_t bits = std::uint64_t{block[0]} << 32 | block[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

Result<Sampler> Sampler::create(SamplerOptions options) {
  // Beyond these numbers nothing more is forbidden or favoured, and sums could leave the range of a float.
  constexpr float kLargest = 1e9F;
  constexpr float kLeastPenalty = 1e-3F;
  TRY(check_range("temperature", options.temperature, 0.0F, kLargest));
  TRY(check_range("top_p", options.top_p, 0.0F, 1.0F));
  TRY(check_range("min_p", options.min_p, 0.0F, 1.0F));
  TRY(check_range("repeat_penalty", options.repeat_penalty, kLeastPenalty, 1 / kLeastPenalty));
  TRY(check_range("presence_penalty", options.presence_penalty, -kLargest, kLargest));
  TRY(check_range("frequency_penalty", options.frequency_penalty, -kLargest, kLargest));
  for (const auto& [token, bias] : options.logit_bias) {
    if (token < 0) return fail(ErrorCode::kInvalidArgument, std::format("logit_bias names the token {}", token));
    if (bias == kForbidden) continue;
    TRY(check_range(std::format("logit_bias of token {}", token), bias, -kLargest, kLargest));
  }
  return Sampler(std::move(options));
}

void Sampler::penalise(std::span<float> logits, std::span<const Token> history) {
  for (const auto& [token, bias] : options_.logit_bias) {
    if (static_cast<std::size_t>(token) < logits.size()) logits[static_cast<std::size_t>(token)] += bias;
  }
  history = history.subspan(std::min<std::size_t>(options_.penalty_from, history.size()));
  const std::size_t window = std::min<std::size_t>(options_.penalty_window, history.size());
  seen_.assign(history.end() - static_cast<std::ptrdiff_t>(window), history.end());
  std::ranges::sort(seen_);
  for (auto run = seen_.begin(); run != seen_.end();) {
    const Token token = *run;
    const auto end = std::upper_bound(run, seen_.end(), token);
    const auto times = static_cast<float>(end - run);
    run = end;
    if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) continue;
    float& logit = logits[static_cast<std::size_t>(token)];
    if (logit == kForbidden) continue;
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit -= times * options_.frequency_penalty + options_.presence_penalty;
  }
  // Huge options may have left the range of numbers, but only a bias of -infinity forbids a token.
  for (float& logit : logits) {
    if (logit != kForbidden)
      logit = std::clamp(logit, -std::numeric_limits<float>::max(), std::numeric_limits<float>::max());
  }
}

namespace {

constexpr auto kBetter = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
};

}  // namespace

// Keeps the fewest best whose probabilities sum to top_p. A vocabulary is large and its tail improbable, so the head is
// sorted alone, and the tail only where the head was not enough.
void Sampler::keep_top_p() {
  constexpr float kHeadDepth = 12.0F;
  const float best = std::ranges::min_element(candidates_, kBetter)->logit;
  const auto weight = [&](const Candidate& candidate) { return std::exp(static_cast<double>(candidate.logit - best)); };
  double total = 0;
  for (const Candidate& candidate : candidates_) total += weight(candidate);
  const double wanted = static_cast<double>(options_.top_p) * total;

  const auto tail = std::partition(candidates_.begin(), candidates_.end(),
                                   [&](const Candidate& candidate) { return candidate.logit >= best - kHeadDepth; });
  std::sort(candidates_.begin(), tail, kBetter);
  double sum = 0;
  for (auto next = candidates_.begin(); next != candidates_.end(); ++next) {
    if (sum >= wanted && next != candidates_.begin()) {
      candidates_.erase(next, candidates_.end());
      return;
    }
    if (next == tail) std::sort(tail, candidates_.end(), kBetter);
    sum += weight(*next);
  }
}

void Sampler::filter() {
  if (options_.top_k != 0 && options_.top_k < candidates_.size()) {
    const auto end = candidates_.begin() + options_.top_k;
    std::nth_element(candidates_.begin(), end, candidates_.end(), kBetter);
    candidates_.erase(end, candidates_.end());
  }
  if (options_.top_p < 1.0F) keep_top_p();
  if (options_.min_p > 0.0F) {
    const float least = std::ranges::min_element(candidates_, kBetter)->logit + std::log(options_.min_p);
    std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.logit < least; });
  }
  // The draw walks along the ids, whatever order the filters left behind.
  if (!std::ranges::is_sorted(candidates_, {}, &Candidate::token)) {
    std::ranges::sort(candidates_, {}, &Candidate::token);
  }
}

Token Sampler::draw(std::uint64_t position) const {
  const double best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
  const auto weight = [&](const Candidate& candidate) {
    return std::exp((static_cast<double>(candidate.logit) - best) / static_cast<double>(options_.temperature));
  };
  double total = 0;
  for (const Candidate& candidate : candidates_) total += weight(candidate);
  const double target = uniform_at(options_.seed, position) * total;
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += weight(candidate);
    if (target < sum) return candidate.token;
  }
  return candidates_.back().token;
}

Result<Token> Sampler::sample(std::span<const float> logits, std::uint64_t position, std::span<const Token> history) {
  TRY(adjust(logits, position, history));
  return choose(position);
}

Result<Token> Sampler::sample(std::span<const float> logits, std::uint64_t position, std::span<const Token> history,
                              std::span<const std::uint64_t> allowed) {
  TRY(adjust(logits, position, history));
  constexpr std::size_t kWordBits = 64;
  for (std::size_t i = 0; i < adjusted_.size(); ++i) {
    const std::size_t word = i / kWordBits;
    if (word >= allowed.size() || (allowed[word] >> (i % kWordBits) & 1) == 0) adjusted_[i] = kForbidden;
  }
  return choose(position);
}

Result<void> Sampler::adjust(std::span<const float> logits, std::uint64_t position, std::span<const Token> history) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == -kForbidden) {
      return fail(ErrorCode::kInternal,
                  std::format("the logit of token {} at position {} is {}", i, position, logits[i]));
    }
  }
  adjusted_.assign(logits.begin(), logits.end());
  penalise(adjusted_, history);
  return {};
}

Result<Token> Sampler::choose(std::uint64_t position) {
  if (options_.temperature == 0.0F) {
    // The first of the largest, so that ties go to the lowest id.
    const auto best = std::ranges::max_element(adjusted_);
    if (best == adjusted_.end() || *best == kForbidden) return all_forbidden(position);
    return static_cast<Token>(best - adjusted_.begin());
  }
  candidates_.clear();
  for (std::size_t i = 0; i < adjusted_.size(); ++i) {
    if (adjusted_[i] != kForbidden) candidates_.push_back({static_cast<Token>(i), adjusted_[i]});
  }
  if (candidates_.empty()) return all_forbidden(position);
  filter();
  return draw(position);
}

std::unexpected<Error> Sampler::all_forbidden(std::uint64_t position) const {
  return fail(ErrorCode::kInvalidArgument,
              std::format("no token is allowed at position {}: every one has logit -infinity", position));
}

}  // namespace baton::engine
