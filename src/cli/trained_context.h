// How long a text may become beside how long those were that the model learnt from.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace baton::cli {

// Who says how many tokens of KV cache there are.
enum class ContextBy { kWork, kFlag };  // worked out, or --ctx

// A sentence to warn with before the work begins, empty where all fits: beyond `trained_tokens`, the model's own
// context (0: unknown), what it writes may be nonsense. Errors: kInvalidArgument for a prompt that is longer, unless
// --ctx asked for the room.
Result<std::string> context_warning(std::uint64_t prompt_tokens, std::uint32_t new_tokens, std::uint32_t trained_tokens,
                                    ContextBy by);

}  // namespace baton::cli
