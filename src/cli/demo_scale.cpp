#include "cli/demo_scale.h"

#include "base/chunk_grid.h"
#include "model/cost.h"
#include "plan/model_shapes.h"
#include "plan/prediction.h"

namespace baton::cli {

namespace {

constexpr double kF16Bytes = 2;
// The demo does not play with memory.
constexpr double kAmpleMemory = 1e12;

double kv_bytes_per_token(const model::ModelShape& shape) { return kF16Bytes * (shape.k_width() + shape.v_width()); }

}  // namespace

// The name is one of the shapes that are shipped.
model::ModelShape reference_shape() { return plan::find_model_shape("llama-3.1-8b-f16").value(); }

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
    for (const Chunk& chunk : chunk_grid(0, workload.prompt_tokens, workload.chunk_tokens)) {
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

plan::Cluster reference_machines() {
  plan::Cluster cluster;
  const std::pair<std::string_view, EffectiveRates> machines[] = {
      {"spark", kSpark}, {"spark2", kSpark}, {"m3ultra", kM3Ultra}};
  for (const auto& [name, rates] : machines) {
    const auto node = static_cast<std::uint16_t>(cluster.nodes.size());
    cluster.nodes.push_back({.name = std::string(name)});
    cluster.devices.push_back({.name = std::string(name),
                               .node = node,
                               .flops_per_second = rates.tflops * 1e12,
                               .bytes_per_second = rates.gbps * 1e9,
                               .memory_bytes = kAmpleMemory});
  }
  plan::connect_all(cluster, kLinkGbit * 1e9 / 8, 0);
  return cluster;
}

Result<double> predicted_total_s(const plan::Placement& placement) {
  // One more token than steps: the first comes from the prompt.
  const plan::Request request{.prompt_tokens = kReferenceWorkload.prompt_tokens,
                              .output_tokens = kReferenceWorkload.decode_steps + 1.0};
  const plan::Prediction prediction = TRY(plan::predict(reference_machines(), reference_shape(), request, placement));
  return prediction.total_s;
}

}  // namespace baton::cli
