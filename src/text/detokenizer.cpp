#include "text/detokenizer.h"

namespace baton::text {

Detokenizer::Detokenizer(const Vocabulary& vocabulary, TextStart start, ControlTokens control)
    : vocabulary_(&vocabulary), control_(control), start_(start), at_start_(start == TextStart::kSequence) {}

std::string Detokenizer::push(Token token) {
  std::string text;
  if (!vocabulary_->contains(token)) return text;
  const TokenType type = vocabulary_->type(token);
  if (type == TokenType::kControl || type == TokenType::kUnknown) {
    if (control_ == ControlTokens::kHide) return text;
    // A name is whole text: half a character before it can no longer be completed.
    decoder_.finish(text);
    decoder_.push(vocabulary_->token_bytes(token), text);
    return text;
  }
  std::string bytes = vocabulary_->token_bytes(token);
  if (at_start_ && vocabulary_->add_space_prefix() && bytes.starts_with(' ')) bytes.erase(0, 1);
  at_start_ = false;
  decoder_.push(bytes, text);
  return text;
}

std::string Detokenizer::finish() {
  std::string text;
  decoder_.finish(text);
  at_start_ = start_ == TextStart::kSequence;
  return text;
}

std::string detokenize(const Vocabulary& vocabulary, std::span<const Token> tokens, ControlTokens control) {
  Detokenizer detokenizer(vocabulary, TextStart::kSequence, control);
  std::string text;
  for (const Token token : tokens) text += detokenizer.push(token);
  return text + detokenizer.finish();
}

}  // namespace baton::text
