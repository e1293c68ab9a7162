// What `baton run --json` prints.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/layer_range.h"
#include "cli/failure_result.h"
#include "node/request.h"

namespace baton::cli {

struct WeighedPlan {
  std::string name;
  std::string plan;  // with this machine by its name
  double predicted_total_s = 0;
};

// Who chose the plan by which the request began, what it was predicted to take, and what it took.
struct PlannedResult {
  std::string by = {};  // "planner", "flags"; "default": there was nothing to plan with, and `problem` says why
  std::string problem = {};
  std::string plan = {};
  std::string shape = {};
  // 0 where nothing could be predicted. Decode and total are of an answer as long as it became.
  double expected_tokens = 0;
  double predicted_queue_s = 0;
  double predicted_prefill_s = 0;
  double predicted_exposed_s = 0;
  double predicted_first_token_s = 0;
  double predicted_decode_s = 0;
  double predicted_total_s = 0;
  double actual_first_token_s = 0;
  double actual_total_s = 0;
  double planning_ms = 0;
  std::vector<WeighedPlan> weighed = {};
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
  std::uint32_t salvaged_tokens = 0;    // of the text, that the last recovery did not compute again
  std::vector<FailureResult> failures;  // what was recovered from
  PlannedResult planned;
  node::RequestTimings timings;
  node::TransferSummary transfer;                              // from all peers
  std::map<std::string, node::TransferSummary> transfer_from;  // by the peer's name
  node::SpeculationReport speculation;
};

}  // namespace baton::cli
