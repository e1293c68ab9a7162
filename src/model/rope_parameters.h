// Rotary positions (Su et al., 2021) and the ways to stretch them over a longer context: linear (Chen et al., 2023),
// YaRN (Peng et al., 2023), and tables of factors (Llama 3's, and LongRoPE's by Ding et al., 2024).
#pragma once

#include <cstdint>

#include "base/result.h"
#include "model/description.h"
#include "model/key_reader.h"

namespace baton::model {

struct RopeParameters {
  bool rotates = true;
  float base = 0;
  float scale = 1;          // on positions: 1 / the stretch of the context
  float extrapolation = 0;  // how much of YaRN's ramp applies; 0: none
  float magnitude = 1;      // of a rotated element, beside what YaRN's formula gives by itself
  float fast_turns = 32;    // YaRN's ramp: elements that turn more often than this in the original context ...
  float slow_turns = 1;     // ... and less often than this
};

struct RopeStretch {
  RopeParameters full;      // of layers that see all positions
  std::uint32_t width = 0;  // elements of a head that are rotated
  std::uint32_t original_context_tokens = 0;
  float score_scale = 1;  // on attention's scores
};

// kCorrupt names the key that makes no sense; kUnsupported a kind of scaling there is no arithmetic for.
Result<RopeStretch> read_rope(const KeyReader& keys, std::uint32_t head_width, std::uint32_t trained_context_tokens,
                              YarnMagnitude yarn_place = YarnMagnitude::kOnRotation);

}  // namespace baton::model
