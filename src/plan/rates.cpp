#include "plan/rates.h"

#include <algorithm>
#include <cmath>
#include <format>

#include "model/cost.h"

namespace baton::plan {

namespace {

// More than any machine has today, by orders of magnitude; what comes from a file or a peer may say anything.
constexpr double kMostFlops = 1e18;
constexpr double kMostBytes = 1e15;
// Attention is slower than matrices by less than this wherever we have measured it, and hardly ever faster.
constexpr double kLeastAttention = 0.25;
constexpr double kMostAttention = 64;
// Of the time of a short read, what is left for the layers at least, once the head's share is taken off.
constexpr double kLeastLayerShare = 0.25;

// Of a correction, how much of the difference one observation takes over, and how much difference is believed.
constexpr double kLearningRate = 0.25;
constexpr double kMostSurprise = 0.5;

bool is_between(double value, double least, double most) {
  return std::isfinite(value) && value >= least && value <= most;
}

double kv_row_bytes(const model::ModelShape& shape, std::uint32_t layer, double bytes_per_value) {
  const model::LayerMemory& kept = shape.layers[layer].memory;
  return (static_cast<double>(kept.k_width) + kept.v_width) * bytes_per_value;
}

struct Flops {
  double all = 0;
  double attention = 0;
  double others() const { return all - attention; }
};

Flops flops_of(const model::ModelShape& shape, const TimedRead& read) {
  const model::TokenRun run{read.depth, read.tokens};
  Flops flops;
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    flops.all += model::layer_flops(shape, layer, {&run, 1});
    flops.attention += model::attention_flops(shape, layer, {&run, 1});
  }
  return flops;
}

double bytes_of(const model::ModelShape& shape, double kv_bytes_per_value, const TimedWrite& write) {
  double bytes = model::head_cost(shape, 1).bytes * write.tokens;
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    const double row_bytes = kv_row_bytes(shape, layer, kv_bytes_per_value);
    for (std::uint32_t step = 0; step < write.tokens; ++step) {
      const model::TokenRun run{std::uint64_t{write.depth} + step, 1};
      bytes += model::layer_bytes(shape, layer, {&run, 1}, row_bytes);
    }
  }
  return bytes;
}

bool is_timed(std::uint32_t tokens, double seconds) { return tokens > 0 && std::isfinite(seconds) && seconds > 0; }

}  // namespace

Result<void> check_rates(const Rates& rates) {
  if (is_between(rates.flops_per_second, 1, kMostFlops) && is_between(rates.bytes_per_second, 1, kMostBytes) &&
      is_between(rates.attention_factor, kLeastAttention, kMostAttention)) {
    return {};
  }
  return fail(ErrorCode::kInvalidArgument,
              std::format("{} FLOPs and {} bytes a second, attention {} times as slow, are no device's rates",
                          rates.flops_per_second, rates.bytes_per_second, rates.attention_factor));
}

Result<Rates> fit_rates(const model::ModelShape& shape, double kv_bytes_per_value, const Timings& timings) {
  const TimedRead& shallow = timings.shallow;
  const TimedRead& deep = timings.deep;
  if (!is_timed(shallow.tokens, shallow.seconds) || !is_timed(deep.tokens, deep.seconds) ||
      !is_timed(timings.write.tokens, timings.write.seconds) || deep.tokens != shallow.tokens) {
    return fail(ErrorCode::kInvalidArgument, "rates are fitted to reads of one size and a write that took some time");
  }
  Rates rates;
  rates.bytes_per_second = bytes_of(shape, kv_bytes_per_value, timings.write) / timings.write.seconds;
  const double head_s = model::head_cost(shape, 1).bytes / rates.bytes_per_second;
  const double layers_s = std::max(shallow.seconds - head_s, kLeastLayerShare * shallow.seconds);
  const Flops near = flops_of(shape, shallow);
  const Flops far = flops_of(shape, deep);
  const double more_attention = far.attention - near.attention;
  // Seconds of an attention FLOP, and so of the others.
  double attention_s = layers_s / near.all;
  if (more_attention > 0) attention_s = std::max(0.0, (deep.seconds - shallow.seconds) / more_attention);
  const double others_s = std::max(layers_s - attention_s * near.attention, kLeastLayerShare * layers_s);
  rates.flops_per_second = near.others() / others_s;
  rates.attention_factor = std::clamp(attention_s * rates.flops_per_second, kLeastAttention, kMostAttention);
  TRY(check_rates(rates));
  return rates;
}

double Correction::factor(TimePoint time) const {
  const double half_lives = std::max(0.0, seconds(time - seen_) / seconds(kHalfLife));
  return std::pow(factor_, std::exp2(-half_lives));
}

void Correction::observe(double predicted_s, double actual_s, double weight, TimePoint time) {
  if (!(predicted_s > 0) || !(actual_s > 0) || !std::isfinite(predicted_s) || !std::isfinite(actual_s)) return;
  const double surprise = std::clamp(std::log(actual_s / predicted_s), -kMostSurprise, kMostSurprise);
  const double moved = factor(time) * std::exp(kLearningRate * std::clamp(weight, 0.0, 1.0) * surprise);
  factor_ = std::clamp(moved, kLeast, kMost);
  seen_ = std::max(seen_, time);
}

}  // namespace baton::plan
