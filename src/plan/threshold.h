// From which prompt length on handing a prompt's KV over costs nothing, and from which it pays: results of the cost
// model, not constants.
#pragma once

#include <optional>

#include "plan/prediction.h"

namespace baton::plan {

inline constexpr std::uint32_t kLongestPrompt = 131072;

struct Threshold {
  // The shortest prompt from which on, up to kLongestPrompt, the transfer hides behind the prefill: nothing is waited
  // for but the last layer's KV of the last chunk, which nothing can hide. None: not even the longest prompt does.
  std::optional<std::uint32_t> hidden_tokens;
  // The shortest prompt from which on reading elsewhere is faster than reading and writing on the decoder.
  std::optional<std::uint32_t> pays_tokens;
};

// For a reader and a decoder of the cluster, memory apart; of the request only output length and cache count. Prompts
// are tried at every length up to a chunk by eighths of it, then chunk by chunk, then in steps of a sixteenth. Errors:
// as predict().
Result<Threshold> find_threshold(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                                 DeviceIndex reader, DeviceIndex decoder, WireCodec codec, std::uint32_t chunk_tokens);

}  // namespace baton::plan
