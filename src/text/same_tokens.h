// Whether two models mean the same by their tokens, so that one may read and guess what the other writes.
#pragma once

#include "base/result.h"
#include "text/vocabulary.h"

namespace baton::text {

// kInvalidArgument, naming the first difference: in kind, in a token's text or type, or in the merges. Tables are
// padded to round sizes, so one of the two may have unused tokens more at its end.
Result<void> check_same_tokens(const Vocabulary& ours, const Vocabulary& theirs);

}  // namespace baton::text
