// What `baton run --json` prints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/layer_range.h"
#include "node/request.h"

namespace baton::cli {

struct RunResult {
  std::string text;
  std::vector<Token> tokens;
  std::uint32_t prompt_tokens = 0;
  bool emulated = false;
  bool emulation_valid = true;  // real work kept up with the emulated device, but for 1% of a phase at most
  std::string plan;
  std::string shape;
  std::uint32_t recoveries = 0;
  std::uint32_t salvaged_tokens = 0;  // of the prompt, that the last recovery did not compute again
  node::RequestTimings timings;
  node::TransferSummary transfer;
  node::SpeculationReport speculation;
};

}  // namespace baton::cli
