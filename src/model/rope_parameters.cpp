#include "model/rope_parameters.h"

#include <cmath>
#include <format>
#include <string_view>

namespace baton::model {

namespace {

// Of the weight of DeepSeek's length scaling, what its files state.
constexpr float kStatedPart = 0.1F;

// The paper's length scaling of attention, 0.1 * weight * ln(stretch) + 1.
float yarn_magnitude(float stretch, float weight) {
  return stretch <= 1 ? 1.0F : 0.1F * weight * std::log(stretch) + 1.0F;
}

Result<float> read_stretch(const KeyReader& keys) {
  float stretch = TRY(keys.factor_or("rope.scaling.factor", 0));
  if (stretch == 0) stretch = TRY(keys.factor_or("rope.scale_linear", 0));  // its older name
  return stretch == 0 ? 1.0F : stretch;                                     // 0 is written where there is none
}

Result<void> read_yarn(const KeyReader& keys, float stretch, YarnMagnitude place, RopeStretch& result) {
  RopeParameters& rope = result.full;
  const auto stated = TRY(keys.file().get_or<float>(keys.name("rope.scaling.yarn_ext_factor"), -1));
  if (!std::isfinite(stated))
    return keys.corrupt(std::format("'{}' is {}", keys.name("rope.scaling.yarn_ext_factor"), stated));
  rope.extrapolation = stated < 0 ? 1.0F : stated;
  rope.fast_turns = TRY(keys.positive_or("rope.scaling.yarn_beta_fast", 32));
  rope.slow_turns = TRY(keys.positive_or("rope.scaling.yarn_beta_slow", 1));
  // Models may weigh the magnitude of all dimensions against that of the rotated ones, which leaves their quotient.
  const float weight = TRY(keys.factor_or("rope.scaling.yarn_log_multiplier", 0));
  if (place == YarnMagnitude::kOnScores) {
    // Rotated elements keep their size, so what ggml multiplies them by is taken back; scores are a product of two.
    const float own = rope.magnitude * (weight == 0 ? yarn_magnitude(stretch, 1) : 1.0F);
    result.score_scale = std::pow(own * yarn_magnitude(stretch, weight / kStatedPart), 2.0F);
    if (rope.extrapolation != 0) rope.magnitude = own / yarn_magnitude(stretch, 1);
    return {};
  }
  const float wanted =
      weight == 0 ? yarn_magnitude(stretch, 1) : yarn_magnitude(stretch, 1) / yarn_magnitude(stretch, weight);
  // ggml multiplies by the paper's magnitude itself wherever the ramp applies.
  if (rope.extrapolation != 0) rope.magnitude *= wanted / yarn_magnitude(stretch, 1);
  return {};
}

}  // namespace

Result<RopeStretch> read_rope(const KeyReader& keys, std::uint32_t head_width, std::uint32_t trained_context_tokens,
                              YarnMagnitude yarn_place) {
  RopeStretch result;
  result.width = TRY(keys.size_or("rope.dimension_count", head_width, kMaxHeadWidth));
  if (result.width % 2 != 0 || result.width > head_width) {
    return keys.corrupt(std::format("'{}' is {}: not even, or wider than a head of {}",
                                    keys.name("rope.dimension_count"), result.width, head_width));
  }
  result.original_context_tokens =
      TRY(keys.size_or("rope.scaling.original_context_length", trained_context_tokens, kMaxContext));
  result.full.base = TRY(keys.positive_or("rope.freq_base", 10000.0F));
  const float magnitude = TRY(keys.factor_or("rope.scaling.attn_factor", 1));
  result.full.magnitude = magnitude == 0 ? 1.0F : magnitude;

  const std::string type_key = keys.name("rope.scaling.type");
  const auto kind = TRY(keys.file().get_or<std::string_view>(type_key, "linear"));
  if (kind == "none") return result;
  if (kind != "linear" && kind != "yarn" && kind != "longrope") {
    return keys.unsupported(
        std::format("'{}' is '{}', which this version cannot compute", type_key, kind.substr(0, 40)));
  }
  const float stretch = TRY(read_stretch(keys));
  result.full.scale = 1.0F / stretch;
  if (kind == "yarn") TRY(read_yarn(keys, stretch, yarn_place, result));
  return result;
}

}  // namespace baton::model
