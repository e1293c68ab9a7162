#include "plan/prediction.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <limits>
#include <set>

#include "plan/feasibility.h"
#include "plan/simulation.h"

namespace baton::plan {

namespace {

struct CodecFacts {
  WireCodec codec;
  std::string_view name;
  double bytes_per_value;
};

// Blocks of 32 values with a scale of 2 bytes: docs/formats/kv-stream.md.
constexpr std::array kCodecs = {CodecFacts{WireCodec::kF16, "f16", 2.0},
                                CodecFacts{WireCodec::kQ8_0, "q8_0", 34.0 / 32},
                                CodecFacts{WireCodec::kQ4_0, "q4_0", 18.0 / 32}};

Result<void> wrong(std::string why) { return fail(ErrorCode::kInvalidArgument, std::move(why)); }

Result<void> validate_chunks(std::uint32_t prompt_tokens, std::uint32_t chunk_tokens) {
  if (chunk_tokens == 0) return wrong("chunks need at least one token");
  const auto prompt_by = [&](std::uint32_t parts) { return (std::uint64_t{prompt_tokens} + parts - 1) / parts; };
  const std::uint64_t chunks = prompt_by(chunk_tokens);
  if (chunks <= kMaxChunks) return {};
  return wrong(
      std::format("a prompt of {} tokens in chunks of {} makes {} chunks, and {} can be planned for: use chunks "
                  "of {} tokens or more",
                  prompt_tokens, chunk_tokens, chunks, kMaxChunks, prompt_by(kMaxChunks)));
}

Result<void> validate_list(std::string_view list, const std::vector<DeviceStage>& stages, const Cluster& cluster,
                           std::uint32_t layers) {
  std::uint32_t next = 0;
  std::set<DeviceIndex> seen;
  for (const DeviceStage& stage : stages) {
    if (stage.device >= cluster.devices.size()) return wrong(std::format("{} uses device {}", list, stage.device));
    if (!seen.insert(stage.device).second) {
      return wrong(std::format("{} uses '{}' twice", list, cluster.devices[stage.device].name));
    }
    if (stage.layers.begin != next || stage.layers.empty()) {
      return wrong(
          std::format("{} goes on with layers {}-{} after layer {}", list, stage.layers.begin, stage.layers.end, next));
    }
    next = stage.layers.end;
  }
  if (next != layers) return wrong(std::format("{} ends at layer {} of {}", list, next, layers));
  return {};
}

Result<void> validate_placement(const Placement& placement, const Cluster& cluster, std::uint32_t layers) {
  TRY(validate_list("prefill", placement.prefill, cluster, layers));
  TRY(validate_list("decode", placement.decode, cluster, layers));
  if (placement.decode.size() > 1 && placement.decode != placement.prefill) {
    return wrong("a decode in several stages goes with the same stages for the prefill");
  }
  if (placement.codecs.size() != placement.prefill.size()) return wrong("each prefill stage needs a codec");
  return {};
}

}  // namespace

std::string_view codec_name(WireCodec codec) { return kCodecs[static_cast<std::size_t>(codec)].name; }

std::optional<WireCodec> find_codec(std::string_view name) {
  const auto found = std::ranges::find(kCodecs, name, &CodecFacts::name);
  return found == kCodecs.end() ? std::nullopt : std::optional(found->codec);
}

double codec_bytes_per_value(WireCodec codec) { return kCodecs[static_cast<std::size_t>(codec)].bytes_per_value; }

std::string_view shape_name(PlanShape shape) {
  constexpr std::array<std::string_view, 5> kNames = {"single", "disaggregated", "joint", "relay", "pooled"};
  return kNames[static_cast<std::size_t>(shape)];
}

PlanShape Placement::shape() const {
  if (decode.size() > 1) return PlanShape::kPooled;
  const bool decoder_reads = prefill.back().device == decode.front().device;
  if (prefill.size() == 1) return decoder_reads ? PlanShape::kSingle : PlanShape::kDisaggregated;
  return prefill.size() == 2 && decoder_reads ? PlanShape::kJoint : PlanShape::kRelay;
}

std::uint32_t Request::context_tokens() const {
  return prompt_tokens + static_cast<std::uint32_t>(std::ceil(output_tokens));
}

Result<void> Request::validate() const {
  if (prompt_tokens == 0) return wrong("a request needs a prompt of at least one token");
  if (!std::isfinite(output_tokens) || output_tokens < 1) return wrong("an answer has at least one token");
  if (prompt_tokens + std::ceil(output_tokens) > std::numeric_limits<std::uint32_t>::max()) {
    return wrong(std::format("a prompt of {} tokens and an answer of {:.0f} are longer than any context", prompt_tokens,
                             output_tokens));
  }
  if (codecs.empty() || chunk_tokens.empty()) return wrong("a request needs a codec and a chunk size to choose from");
  TRY(validate_chunks(prompt_tokens, std::ranges::min(chunk_tokens)));
  if (!std::isfinite(kv_bytes_per_value) || kv_bytes_per_value <= 0) return wrong("a cached value needs bytes");
  return {};
}

Result<Prediction> predict(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                           const Placement& placement) {
  TRY(cluster.validate());
  TRY(request.validate());
  TRY(validate_placement(placement, cluster, shape.layer_count));
  TRY(validate_chunks(request.prompt_tokens, placement.chunk_tokens));
  if (request.coordinator && *request.coordinator >= cluster.nodes.size()) {
    return fail(ErrorCode::kInvalidArgument, std::format("there is no node {} to coordinate", *request.coordinator));
  }
  const LinkTable links(cluster);
  const MemoryTable memory(shape, request, {&placement.chunk_tokens, 1});
  const Feasibility feasibility(cluster, links, memory, request.coordinator);
  if (const auto gap = feasibility.missing_link(placement)) {
    return fail(ErrorCode::kUnavailable, std::format("nodes '{}' and '{}' have no link", cluster.nodes[gap->first].name,
                                                     cluster.nodes[gap->second].name));
  }
  for (const Device* device : feasibility.overfull(placement)) {
    return fail(
        ErrorCode::kNoCapacity,
        std::format(
            "device '{}' has {:.1f} GB, its part of the model needs {:.1f} GB", device->name,
            device->memory_bytes / 1e9,
            feasibility.device_bytes(placement, static_cast<DeviceIndex>(device - cluster.devices.data())) / 1e9));
  }
  const PrefillTable prefill(cluster, shape, request, placement.chunk_tokens,
                             usable_prefix(cluster, request, placement));
  const DecodeTable decode(cluster, shape, request);
  Prediction prediction = Simulation(cluster, shape, request, links).run(placement, prefill, decode);
  prediction.memory_bytes = feasibility.total_bytes(placement);
  return prediction;
}

}  // namespace baton::plan
