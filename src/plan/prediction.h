// What a placement of layers on devices would cost, second by second. Pure: the same numbers give the same prediction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"
#include "model/shape.h"
#include "plan/cluster.h"

namespace baton::plan {

// How K and V travel. Every one but f16 loses precision.
enum class WireCodec : std::uint8_t { kF16, kQ8_0, kQ4_0 };

std::string_view codec_name(WireCodec codec);
std::optional<WireCodec> find_codec(std::string_view name);
// Bytes of a value on the wire: 2, 34/32 and 18/32.
double codec_bytes_per_value(WireCodec codec);

// Chunks that a prompt may be cut into: what every layer of every chunk costs on every device is kept while planning.
inline constexpr std::uint32_t kMaxChunks = 32768;

struct Request {
  std::uint32_t prompt_tokens = 0;
  double output_tokens = 1;  // expected; the first comes from the prompt's logits, each further one is a decode step
  std::optional<std::uint16_t> coordinator = std::nullopt;  // the node that samples; none: the one that decodes
  std::vector<WireCodec> codecs = {WireCodec::kF16, WireCodec::kQ8_0};
  std::vector<std::uint32_t> chunk_tokens = {512, 1024, 2048, 4096};
  double kv_bytes_per_value = 2;  // in the caches

  // Prompt and answer.
  std::uint32_t context_tokens() const;
  // kInvalidArgument with what is wrong; a chunk size that cuts the prompt into more than kMaxChunks is.
  Result<void> validate() const;
};

struct DeviceStage {
  DeviceIndex device = 0;
  LayerRange layers;

  bool operator==(const DeviceStage&) const = default;
};

enum class PlanShape : std::uint8_t { kSingle, kDisaggregated, kJoint, kRelay, kPooled };  // from simple to involved

std::string_view shape_name(PlanShape shape);

struct Placement {
  std::vector<DeviceStage> prefill;
  std::vector<DeviceStage> decode;  // one stage with all layers, or the same stages as prefill
  std::vector<WireCodec> codecs;    // of the KV that each prefill stage sends; of no meaning where it sends none
  std::uint32_t chunk_tokens = 512;

  PlanShape shape() const;
  bool operator==(const Placement&) const = default;
};

// queue + prefill + exposed + decode = total.
struct Prediction {
  double queue_s = 0;     // until the first layer computes
  double prefill_s = 0;   // from there until the last layer of the last chunk was computed
  double transfer_s = 0;  // that KV and hidden states take on their links, most of it beside the prefill
  // From the end of the prefill until decoding begins: KV still on its way, logits, a busy decoder.
  double exposed_s = 0;
  double decode_s = 0;  // all steps
  double total_s = 0;
  double first_token_s = 0;
  double disturbance_s = 0;         // by which the answers that run now are delayed, added up
  double memory_bytes = 0;          // on all devices together
  std::uint32_t chunks = 0;         // computed
  std::uint32_t prefix_tokens = 0;  // of the prompt, that nobody had to compute

  double score_s() const { return total_s + disturbance_s; }
};

// kInvalidArgument where the placement is none for this model and cluster; kUnavailable where two of its nodes have no
// link; kNoCapacity where a device's memory does not suffice, with the device and what it lacks.
Result<Prediction> predict(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                           const Placement& placement);

}  // namespace baton::plan
