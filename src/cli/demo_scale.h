// The arithmetic behind `baton demo`: a small model whose prefill, decode and KV transfer take, on emulated devices and
// links of scaled rates, the seconds that Llama-3.1-8B takes on the real ones. docs/demo.md works it out.
#pragma once

#include <cstdint>

#include "engine/emulation.h"
#include "model/shape.h"
#include "model/synth.h"
#include "plan/prediction.h"

namespace baton::cli {

// A device as the published figures show it: what it really reached, not its data sheet.
struct EffectiveRates {
  double tflops = 0;
  double gbps = 0;
};

// Fitted to the published times of each machine alone (EXO Labs, 2025): 1.47 and 2.87 s, 5.57 and 0.85 s.
inline constexpr EffectiveRates kSpark{90.0, 179.0};
inline constexpr EffectiveRates kM3Ultra{23.7, 606.0};
inline constexpr double kLinkGbit = 10.0;

// A request: what is read and what is written.
struct Workload {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t chunk_tokens = 0;
  std::uint32_t decode_steps = 0;
};

// Llama-3.1-8B in F16, 8,192 tokens in, 32 decode steps, in chunks of 512.
model::ModelShape reference_shape();
inline constexpr Workload kReferenceWorkload{8192, 512, 32};

// The same in small: 1/16 of the width, the prompt and the chunks, as many layers and chunks, the same grouped queries.
model::SynthOptions scale_model();
// 32 tokens come out: the first from the prompt's last logits, 31 from decode steps.
inline constexpr Workload kScaleWorkload{512, 32, 31};

// What the two kinds of work come to, and the KV that a whole prompt leaves.
struct WorkTotals {
  double prefill_flops = 0;
  double decode_bytes = 0;
  double kv_bytes = 0;
};
WorkTotals work_totals(const model::ModelShape& shape, const Workload& workload);

// Rates at which the scale model takes as long as the reference does at the given ones.
engine::EmulatedDevice scaled_device(const EffectiveRates& rates, const WorkTotals& reference, const WorkTotals& scale);
double scaled_link_gbit(const WorkTotals& reference, const WorkTotals& scale);

// The machines at their effective rates, in the order spark, spark2, m3ultra, as the planner knows machines. Nothing of
// the emulation is in it: what the demo measures is held against what it predicts.
plan::Cluster reference_machines();
// Of the whole request at full size.
Result<double> predicted_total_s(const plan::Placement& placement);

}  // namespace baton::cli
