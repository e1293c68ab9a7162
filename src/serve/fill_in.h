// Filling in: a model that was trained for it writes what belongs between two texts, each behind a token of its own.
#pragma once

#include <optional>
#include <vector>

#include "model/gguf.h"
#include "text/vocabulary.h"

namespace baton::serve {

struct FillInTokens {
  Token prefix = 0;  // before what stands before
  Token suffix = 0;  // before what stands behind
  Token middle = 0;  // and then the model writes
  // By which it says that it is done, beside the usual ones.
  std::vector<Token> ends;
};

// By the file's keys (tokenizer.ggml.fim_pre_token_id, ...), else by the names that such tokens have in the
// vocabularies of models that are known. Nothing where one of the three is missing.
Result<std::optional<FillInTokens>> find_fill_in_tokens(const model::GgufFile& file,
                                                        const text::Vocabulary& vocabulary);

}  // namespace baton::serve
