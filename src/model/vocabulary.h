// A model file's tokenizer, taken out of its metadata.
#pragma once

#include "base/result.h"
#include "model/gguf.h"
#include "text/vocabulary.h"

namespace baton::model {

// Reads the tokenizer.ggml.* keys. A file without a tokenizer, or with model "none" or "test", gives kind kNone: it can
// be run on token ids, and only commands that need text refuse it. An unknown tokenizer is kUnsupported and named.
// Only types and sizes are checked here (kCorrupt, naming the key); text::Vocabulary::create checks what they mean.
Result<text::VocabularyData> read_vocabulary(const GgufFile& file);

}  // namespace baton::model
