// What `baton run --json` prints.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/layer_range.h"
#include "node/request.h"

namespace baton::cli {

// A plan that was given up because a node failed.
struct FailureResult {
  std::string peer;  // empty where this node itself failed
  std::string address;
  std::string error;  // its kind, such as "unavailable"
  std::string reason;
  std::string plan;
  std::uint32_t salvaged_tokens = 0;
};

struct RunResult {
  std::string text;
  std::vector<Token> tokens;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of those, kept from an earlier request
  bool emulated = false;
  bool emulation_valid = true;  // real work kept up with the emulated device, but for 1% of a phase at most
  std::string plan;             // by which the answer was finished
  std::string shape;            // of it
  std::uint32_t recoveries = 0;
  std::uint32_t salvaged_tokens = 0;    // of the prompt, that the last recovery did not compute again
  std::vector<FailureResult> failures;  // what was recovered from
  node::RequestTimings timings;
  node::TransferSummary transfer;                              // from all peers
  std::map<std::string, node::TransferSummary> transfer_from;  // by the peer's name
  node::SpeculationReport speculation;
};

}  // namespace baton::cli
