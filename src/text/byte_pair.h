// Byte-level BPE: words cut by a pre-tokenizer, their bytes merged by rank.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/merge.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace baton::text {

// Borrows the vocabulary. Immutable; safe to use from several threads at once.
class BytePairEncoder {
 public:
  static Result<BytePairEncoder> create(const Vocabulary& vocabulary);
  // Appends the tokens of `text`.
  Result<void> encode(std::string_view text, std::vector<Token>& tokens) const;

 private:
  BytePairEncoder(const Vocabulary& vocabulary, PreTokenizer pre_tokenizer);
  Result<void> append_token(Symbol symbol, std::vector<Token>& tokens) const;
  Result<void> append_byte(std::uint8_t byte, std::vector<Token>& tokens) const;
  // The token of a whole word, where the pre-tokenizer's models take those unmerged.
  std::optional<Token> whole_word(std::string_view word, std::string& scratch) const;

  const Vocabulary* vocabulary_;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  // Symbols below the vocabulary's size are its tokens; the others are bytes and parts that merges name but no token
  // is.
  std::vector<std::string> other_symbols_;
  std::array<Symbol, 256> byte_symbols_{};
};

}  // namespace baton::text
