// Small vocabularies, made by hand, for this room's tests and fuzzer.
#pragma once

#include <string>
#include <string_view>

#include "text/vocabulary.h"

namespace baton::text {

// The id that add_token gave.
inline Token add_token(VocabularyData& data, std::string text, TokenType type, float score = 0.0F) {
  data.tokens.push_back(std::move(text));
  data.types.push_back(type);
  data.scores.push_back(score);
  return static_cast<Token>(data.tokens.size() - 1);
}

// <unk> <s> </s>, all bytes, and pieces of "hello", "né" and runs of spaces and of a's.
VocabularyData small_sentencepiece();

// All bytes in GPT-2's alphabet, merges of "hello", " hello", "é" and runs of spaces and of a's, <|end|> as a control
// token and <tool> as a user-defined one.
VocabularyData small_byte_pair();

// Bytes that look random and are the same everywhere.
class ByteSource {
 public:
  explicit ByteSource(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::uint32_t below(std::uint32_t bound) { return next() % bound; }
  // Pieces that matter to tokenizers, some of them broken, between plain random bytes.
  std::string text(std::size_t pieces);

 private:
  std::uint64_t state_;
};

}  // namespace baton::text
