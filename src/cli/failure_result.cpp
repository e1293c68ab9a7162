#include "cli/failure_result.h"

namespace baton::cli {

FailureResult failure_result(const node::Recovery& recovery) {
  const plan::NodeRef lost = recovery.lost.value_or(plan::NodeRef());
  return {.peer = lost.name,
          .address = lost.address,
          .error = std::string(error_code_name(recovery.error.code)),
          .reason = recovery.error.message,
          .plan = recovery.plan,
          .replanned = recovery.replanned.to_string(),
          .text_tokens = recovery.text_tokens,
          .salvaged_tokens = recovery.salvaged_tokens,
          .failed_s = recovery.failed_s,
          .next_token_s = recovery.next_token_s,
          .cost_s = recovery.cost_s()};
}

}  // namespace baton::cli
