// The vocabulary of a synthetic model: it has no meaning, but every text has tokens.
#pragma once

#include <cstdint>

#include "model/gguf_writer.h"

namespace baton::model {

// <unk>, <s>, </s> and the 256 byte tokens come first; the rest are fillers.
inline constexpr std::uint32_t kSpecialTokens = 3 + 256;
inline constexpr std::uint32_t kMaxSynthVocab = 1'000'000;

// Writes the tokenizer.ggml.* keys of a SentencePiece vocabulary of `size` tokens: printable characters, syllables and
// words of up to three syllables, each made of two shorter tokens, so that merging can reach it; and a chat template.
void write_synth_vocabulary(GgufWriter& writer, std::uint32_t size);

}  // namespace baton::model
