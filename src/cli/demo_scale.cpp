#include "cli/demo_scale.h"

#include "handoff/flow.h"
#include "model/cost.h"

namespace baton::cli {

namespace {

constexpr double kF16Bytes = 2;

double kv_bytes_per_token(const model::ModelShape& shape) { return kF16Bytes * (shape.k_width() + shape.v_width()); }

}  // namespace

model::ModelShape reference_shape() {
  model::ModelShape shape;
  shape.architecture = "llama";
  shape.layer_count = 32;
  shape.embedding_width = 4096;
  shape.feed_forward_width = 14336;
  shape.head_count = 32;
  shape.kv_head_count = 8;
  shape.key_head_width = 128;
  shape.value_head_width = 128;
  shape.vocabulary_size = 128256;
  const std::uint64_t width = shape.embedding_width;
  const std::uint64_t attention = 2 * width * width + width * (shape.k_width() + shape.v_width());
  const std::uint64_t weights = attention + 3 * width * shape.feed_forward_width;
  shape.layers.assign(shape.layer_count, {.memory = {.k_width = shape.k_width(), .v_width = shape.v_width()},
                                          .weight_count = weights,
                                          .weight_bytes = static_cast<std::uint64_t>(kF16Bytes) * weights});
  shape.head_weight_count = width * shape.vocabulary_size;
  shape.head_weight_bytes = static_cast<std::uint64_t>(kF16Bytes) * shape.head_weight_count;
  return shape;
}

model::SynthOptions scale_model() {
  model::SynthOptions options;
  options.embd = 256;
  options.layers = 32;
  options.heads = 4;
  options.kv_heads = 1;
  options.ff = 896;
  options.vocab = 512;  // a row of logits then takes the wire as long as the real one
  // Not F16 as in the reference: what its bytes cost is scaled anyway, and real work in Q4_0 leaves the emulation room.
  options.type = model::TensorType::kQ4_0;
  return options;
}

WorkTotals work_totals(const model::ModelShape& shape, const Workload& workload) {
  const double kv_bytes = kv_bytes_per_token(shape);
  WorkTotals totals;
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    for (const handoff::Chunk& chunk : handoff::chunk_grid(0, workload.prompt_tokens, workload.chunk_tokens)) {
      const model::TokenRun run{chunk.first_position, chunk.tokens};
      totals.prefill_flops += model::layer_cost(shape, layer, {&run, 1}, kv_bytes).flops;
    }
    for (std::uint32_t step = 0; step < workload.decode_steps; ++step) {
      const model::TokenRun run{workload.prompt_tokens + step, 1};
      totals.decode_bytes += model::layer_cost(shape, layer, {&run, 1}, kv_bytes).bytes;
    }
  }
  totals.prefill_flops += model::head_cost(shape, 1).flops;
  totals.decode_bytes += model::head_cost(shape, 1).bytes * workload.decode_steps;
  totals.kv_bytes = kv_bytes * shape.layer_count * workload.prompt_tokens;
  return totals;
}

engine::EmulatedDevice scaled_device(const EffectiveRates& rates, const WorkTotals& reference,
                                     const WorkTotals& scale) {
  return {rates.tflops * scale.prefill_flops / reference.prefill_flops,
          rates.gbps * scale.decode_bytes / reference.decode_bytes};
}

double scaled_link_gbit(const WorkTotals& reference, const WorkTotals& scale) {
  return kLinkGbit * scale.kv_bytes / reference.kv_bytes;
}

}  // namespace baton::cli
