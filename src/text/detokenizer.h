// Tokens to text, one by one. What comes out is always whole UTF-8 characters: the bytes of half a character wait for
// the rest, and bytes that can no longer become one come out as U+FFFD at that moment, one for each maximal part
// (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"; what Python's incremental decoder does).
#pragma once

#include <span>
#include <string>

#include "base/layer_range.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace baton::text {

// Where the text begins. A SentencePiece vocabulary may put a space before every text; at its beginning it goes again.
enum class TextStart { kSequence, kContinuation };

// Control tokens (and the unknown token) are left out of a text unless asked for.
enum class ControlTokens { kHide, kShow };

// Borrows the vocabulary. One per stream of tokens; not for several threads.
class Detokenizer {
 public:
  explicit Detokenizer(const Vocabulary& vocabulary, TextStart start = TextStart::kSequence,
                       ControlTokens control = ControlTokens::kHide);

  // The text that is now certain. A token that the vocabulary does not have gives nothing.
  std::string push(Token token);
  // The rest: U+FFFD where half a character is still waiting. Afterwards a new text may begin.
  std::string finish();

 private:
  const Vocabulary* vocabulary_;
  ControlTokens control_;
  TextStart start_;
  bool at_start_;
  Utf8Decoder decoder_;
};

// All tokens of a sequence at once.
std::string detokenize(const Vocabulary& vocabulary, std::span<const Token> tokens,
                       ControlTokens control = ControlTokens::kHide);

}  // namespace baton::text
