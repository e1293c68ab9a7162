// Text to tokens, as the model was trained on it: SentencePiece's BPE or byte-level BPE (GPT-2 and its kin).
// The ids are those of llama.cpp, but where it would lose bytes (invalid UTF-8, a vocabulary without U+2581) they are
// kept, and plain text never becomes a control token. Time is O(n log n) in the text, whatever it holds.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"
#include "text/marked_text.h"
#include "text/token_cache.h"
#include "text/vocabulary.h"

namespace baton::text {

// How text that spells a control token ("<|im_end|>") is read.
enum class SpecialTokens {
  kAsPlainText,  // it is only text: what a user's words must always be
  kParse,        // it is that token: for templates
};

// Immutable; safe to use from several threads at once. Moving one leaves its vocabulary where it is.
class Tokenizer {
 public:
  // Fails with kUnsupported where the pre-tokenizer is unknown, kCorrupt where the merges make no sense.
  // A vocabulary of kind kNone makes a tokenizer that refuses all text.
  static Result<Tokenizer> create(Vocabulary vocabulary);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Adds no BOS or EOS. Bytes that are no UTF-8 are encoded as bytes. Fails with kUnsupported where the vocabulary
  // has neither a token for some byte nor one for the unknown.
  Result<std::vector<Token>> encode(std::string_view text, SpecialTokens mode) const;
  // The same for a rendered conversation: control tokens are read from the template's own bytes alone, never from text
  // that is foreign to it, nor across the border of the two.
  Result<std::vector<Token>> encode(const MarkedText& text) const;
  // The same tokens, those of texts that the cache knows without encoding them again. It must be this tokenizer's own.
  Result<std::vector<Token>> encode(const MarkedText& text, TokenCache& cache) const;

  // What the model wants before and after a text: BOS, EOS or nothing.
  std::vector<Token> begin_sequence() const;
  std::vector<Token> end_sequence() const;

  const Vocabulary& vocabulary() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace baton::text
