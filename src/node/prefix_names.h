// How a request's nodes name the prefix that its receiver holds (docs/formats/kv-stream.md).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "handoff/messages.h"
#include "handoff/prefix.h"

namespace baton::node {

// The file says how the model places its tokens; what the receiver's rows may have gone through, the codec; and in
// which type the receiver keeps them is its own affair.
handoff::PrefixContext prefix_context(const handoff::Open& open);

// Names the prefix of open.prefix_tokens, a multiple of its chunks above 0, and those that end at borders before it, as
// far as there is room: a sender may hold less of the text.
void name_prefixes(handoff::Open& open, std::span<const Token> prompt);

// All that were named, longest first; none where the prefix is empty. kInvalidArgument where they cannot be names.
Result<std::vector<handoff::PrefixName>> named_prefixes(const handoff::Open& open);

// Whether the prompt begins as they say.
Result<void> check_prefixes(const handoff::Open& open, std::span<const Token> prompt);

}  // namespace baton::node
