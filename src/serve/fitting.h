// Whether a server has room for what a request asks for, known before the request waits for its turn.
#pragma once

#include <cstdint>
#include <span>

#include "serve/canonical.h"
#include "serve/vectors.h"

namespace baton::serve {

struct Room {
  std::uint32_t context_tokens = 0;      // of a prompt and its answer together
  std::uint32_t default_new_tokens = 0;  // of an answer whose client does not say how many it wants
};

// Afterwards every answer has a length that fits behind the longest prompt, and all of them can be begun as they are
// asked for. kInvalidArgument, with the parameter that asks too much or kContextLength: a prompt without tokens, one
// that leaves no room for an answer, a longer answer than there is room for, too many answers, a sampler that cannot
// be.
Result<void> fit(CanonicalRequest& asked, const Room& room);

// Afterwards every text has tokens, and at most as many as there is room for: one that is too long is cut where its
// client wants that, and ends with `end` then, which the model wants behind each. Else kInvalidArgument.
Result<void> fit(vectors::VectorRequest& asked, const Room& room, std::span<const Token> end);

}  // namespace baton::serve
