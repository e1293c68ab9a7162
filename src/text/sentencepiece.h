// SentencePiece's BPE (https://github.com/google/sentencepiece): characters merged to the neighbouring pair whose token
// has the best score. Characters that are in no token are spelt in byte tokens.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/merge.h"
#include "text/vocabulary.h"

namespace baton::text {

// Borrows the vocabulary. Immutable; safe to use from several threads at once.
class SentencePieceEncoder {
 public:
  explicit SentencePieceEncoder(const Vocabulary& vocabulary);
  // Appends the tokens of `text`, taken as it is: a space before it is the caller's to add.
  Result<void> encode(std::string_view text, std::vector<Token>& tokens) const;

 private:
  bool may_be_made(Token token) const;
  void add_characters(Token token);
  void add_merges(Token token, std::uint32_t rank);
  Symbol symbol_of_character(std::string_view character) const;
  Symbol symbol_of_part(std::string_view part) const;
  Result<void> append_token(Symbol symbol, std::vector<Token>& tokens) const;
  Result<void> append_character(std::string_view character, std::vector<Token>& tokens) const;

  const Vocabulary* vocabulary_;
  // Symbols below the vocabulary's size are its tokens; the others are characters that only longer tokens have.
  std::vector<std::string> other_symbols_;
  std::unordered_map<std::string_view, Symbol> characters_;  // views into the vocabulary
  std::array<Symbol, 128> ascii_{};                          // the same, for speed; a space is U+2581's
  // Pairs of characters that stand side by side in some token: between any others no merge can reach across, and a text
  // falls apart into words there.
  MergeTable neighbours_;
  MergeTable merges_;
};

}  // namespace baton::text
