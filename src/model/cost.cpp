#include "model/cost.h"

#include <algorithm>
#include <cmath>

#include "base/attention_window.h"

namespace baton::model {

Cost& Cost::operator+=(const Cost& other) {
  flops += other.flops;
  bytes += other.bytes;
  return *this;
}

std::uint64_t attended_positions(TokenRun run, std::uint64_t window) {
  // Position p sees p + 1 positions, or the window where that is less.
  const std::uint64_t end = run.first_position + run.token_count;
  const std::uint64_t growing_end = window == 0 ? end : std::clamp(window, run.first_position, end);
  const std::uint64_t growing = growing_end - run.first_position;
  const std::uint64_t ramp = growing * (run.first_position + 1 + growing_end) / 2;
  return ramp + (end - growing_end) * window;
}

double experts_touched(const LayerShape& layer, std::uint64_t tokens) {
  if (layer.expert_count == 0) return 0;
  const auto experts = static_cast<double>(layer.expert_count);
  const double missed = 1.0 - static_cast<double>(layer.experts_per_token) / experts;
  return experts * (1.0 - std::pow(missed, static_cast<double>(tokens)));
}

namespace {

// A state's element is decayed, gains a product of three, and is weighed into the output.
constexpr double kFlopsPerStateElement = 6;

}  // namespace

double attention_flops(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs) {
  const LayerShape& numbers = shape.layers[layer];
  if (!numbers.memory.keeps_rows()) return 0;
  double attended = 0;
  for (const TokenRun& run : runs) attended += static_cast<double>(attended_positions(run, numbers.attention_window));
  // The query-key product and the weighted sum of values cost 2 FLOPs per element each.
  const double attention_width =
      static_cast<double>(shape.head_count) * (shape.key_head_width + shape.value_head_width) / 2.0;
  return 4.0 * attention_width * attended;
}

double layer_flops(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs) {
  const LayerShape& numbers = shape.layers[layer];
  double tokens = 0;
  for (const TokenRun& run : runs) tokens += static_cast<double>(run.token_count);
  double weights_used = static_cast<double>(numbers.weight_count - numbers.expert_weight_count);
  if (numbers.expert_count > 0) {
    weights_used += static_cast<double>(numbers.expert_weight_count) * numbers.experts_per_token / numbers.expert_count;
  }
  return (2.0 * weights_used + kFlopsPerStateElement * numbers.memory.state_width) * tokens +
         attention_flops(shape, layer, runs);
}

double layer_bytes(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs,
                   double kv_bytes_per_token) {
  const LayerShape& numbers = shape.layers[layer];
  double kv_tokens = 0;
  double state_bytes = 0;
  std::uint64_t tokens = 0;
  for (const TokenRun& run : runs) {
    if (run.token_count == 0) continue;
    tokens += run.token_count;
    state_bytes += 2.0 * sizeof(float) * numbers.memory.state_width;
    // Each position's K and V is read once by the run, however many of its tokens look at it, and the run's own
    // are written.
    const std::uint64_t end = run.first_position + run.token_count;
    const std::uint64_t first_seen = first_visible(run.first_position, numbers.attention_window);
    kv_tokens += static_cast<double>(end - first_seen) + static_cast<double>(run.token_count);
  }
  double weight_bytes = static_cast<double>(numbers.weight_bytes - numbers.expert_weight_bytes);
  if (numbers.expert_count > 0) {
    weight_bytes +=
        static_cast<double>(numbers.expert_weight_bytes) * experts_touched(numbers, tokens) / numbers.expert_count;
  }
  return weight_bytes + state_bytes + kv_tokens * kv_bytes_per_token;
}

Cost layer_cost(const ModelShape& shape, std::uint32_t layer, std::span<const TokenRun> runs,
                double kv_bytes_per_token) {
  return {layer_flops(shape, layer, runs), layer_bytes(shape, layer, runs, kv_bytes_per_token)};
}

Cost head_cost(const ModelShape& shape, std::uint64_t rows) {
  if (rows == 0) return {};
  return {2.0 * static_cast<double>(shape.head_weight_count) * static_cast<double>(rows),
          static_cast<double>(shape.head_weight_bytes)};
}

}  // namespace baton::model
