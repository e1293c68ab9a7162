#include "cli/trained_context.h"

#include <format>

#include "cli/plan_report.h"

namespace baton::cli {

Result<std::string> context_warning(std::uint64_t prompt_tokens, std::uint32_t new_tokens, std::uint32_t trained_tokens,
                                    ContextBy by) {
  if (trained_tokens == 0 || prompt_tokens + new_tokens <= trained_tokens) return "";
  if (prompt_tokens <= trained_tokens) {
    return std::format("the model was made for {} tokens; what goes beyond them may be nonsense",
                       grouped(trained_tokens));
  }
  if (by == ContextBy::kFlag) {
    return std::format("the prompt has {} tokens, and the model was made for {} tokens; what follows may be nonsense",
                       grouped(prompt_tokens), grouped(trained_tokens));
  }
  return fail(ErrorCode::kInvalidArgument,
              std::format("the prompt has {} tokens, and the model was made for {}: shorten it, or give --ctx {} to "
                          "read it all the same, which may end in nonsense",
                          grouped(prompt_tokens), grouped(trained_tokens), prompt_tokens + new_tokens));
}

}  // namespace baton::cli
