// What is told of a machine that a request lost.
#pragma once

#include <cstdint>
#include <string>

#include "node/request.h"

namespace baton::cli {

// A plan that was given up because a node failed. Seconds from the request's start.
struct FailureResult {
  std::string peer;  // empty where this node itself failed
  std::string address;
  std::string error;  // its kind, such as "unavailable"
  std::string reason;
  std::string plan;
  std::string replanned;              // by which the request went on
  std::uint32_t text_tokens = 0;      // the prompt, and what of the answer was read with it
  std::uint32_t salvaged_tokens = 0;  // of them: where the new plan went on
  double failed_s = 0;                // the plan was given up
  double next_token_s = 0;            // the next token came; 0: none did
  double cost_s = 0;  // from the last that the old plan gave, a token or a piece of the prompt, until then
};

FailureResult failure_result(const node::Recovery& recovery);

}  // namespace baton::cli
