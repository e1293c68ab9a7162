#include "plan/threshold.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/chunk_grid.h"
#include "plan/cost_table.h"
#include "plan/links.h"

namespace baton::plan {

namespace {

// What a simulation's rounding leaves.
constexpr double kNothingSeconds = 1e-9;

std::vector<std::uint32_t> prompt_lengths(std::uint32_t chunk_tokens) {
  std::vector<std::uint32_t> lengths = {1};
  const std::uint32_t fine = std::max(1U, chunk_tokens / 8);
  for (std::uint32_t tokens = fine; tokens < kLongestPrompt;) {
    lengths.push_back(tokens);
    const std::uint32_t step = tokens < chunk_tokens ? fine : std::max(chunk_tokens, tokens / 16);
    tokens = (tokens + step) / fine * fine;
  }
  lengths.push_back(kLongestPrompt);
  return lengths;
}

}  // namespace

Result<Threshold> find_threshold(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                                 DeviceIndex reader, DeviceIndex decoder, WireCodec codec, std::uint32_t chunk_tokens) {
  if (reader >= cluster.devices.size() || decoder >= cluster.devices.size() || reader == decoder) {
    return fail(ErrorCode::kInvalidArgument, "a threshold needs two devices, one that reads and another that writes");
  }
  const LayerRange all = {0, shape.layer_count};
  const Placement apart = {{{reader, all}}, {{decoder, all}}, {codec}, chunk_tokens};
  const Placement alone = {{{decoder, all}}, {{decoder, all}}, {WireCodec::kF16}, chunk_tokens};
  Cluster ample = cluster;
  for (Device& device : ample.devices) device.memory_bytes = std::numeric_limits<double>::max();
  const LinkTable links(ample);
  const Way& way = links.between(cluster.devices[reader].node, cluster.devices[decoder].node);
  Threshold threshold;
  bool hides = true;
  bool pays = true;
  const std::vector<std::uint32_t> lengths = prompt_lengths(chunk_tokens);
  for (auto tokens = lengths.rbegin(); tokens != lengths.rend() && (hides || pays); ++tokens) {
    Request at = request;
    at.prompt_tokens = *tokens;
    const Prediction there = TRY(predict(ample, shape, at, apart));
    const Prediction here = TRY(predict(ample, shape, at, alone));
    const std::uint32_t last_chunk = chunk_grid(0, *tokens, chunk_tokens).back().tokens;
    const std::uint32_t last_layer = shape.layer_count - 1;
    const double slice_s = way.seconds(codec_bytes_per_value(codec) * kv_values(shape, last_layer) * last_chunk +
                                       state_bytes(shape, last_layer));
    const double logits_s = there.first_token_s - there.queue_s - there.prefill_s;
    hides = hides && there.exposed_s <= std::max(slice_s + way.latency_s, logits_s) + kNothingSeconds;
    pays = pays && there.total_s < here.total_s;
    if (hides) threshold.hidden_tokens = *tokens;
    if (pays) threshold.pays_tokens = *tokens;
  }
  return threshold;
}

}  // namespace baton::plan
