// Holds a text to a language of bytes, token by token.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/byte_language.h"
#include "text/token_filter.h"
#include "text/token_trie.h"

namespace baton::text {

// A language over a vocabulary: which tokens may come in which state. Shared by the texts that keep to it; but for
// exhausted(), all of them live on one thread.
class TokenLanguage {
 public:
  // The tokens of `end_tokens` may come where a text of the language is complete. The language is closed.
  TokenLanguage(std::unique_ptr<ByteLanguage> language, ByteLanguage::Node start, std::shared_ptr<const TokenTrie> trie,
                std::vector<Token> end_tokens);

  // It has seen too much and serves no new text; those that are under way fail.
  bool exhausted() const { return language_->exhausted(); }
  ByteLanguage::Node start() const { return start_; }

  // As TokenFilter::allowed() gives them. Where the room gets short, only tokens after which the text can still be
  // completed, a token for each byte at worst; but where that was never possible, all that keep to the language. Valid
  // until it is asked again.
  struct Allowed {
    std::span<const std::uint64_t> bits;
    bool shortened = false;
  };
  Result<Allowed> allowed(ByteLanguage::Node state, std::uint32_t tokens_left);
  ByteLanguage::Node after(ByteLanguage::Node state, Token token);

 private:
  struct Mask {
    std::vector<std::uint64_t> bits;
    std::uint32_t longest_rest = 0;  // bytes that have to follow the worst of its tokens
  };
  Mask make_mask(ByteLanguage::Node state, std::uint32_t longest_rest);

  std::unique_ptr<ByteLanguage> language_;
  ByteLanguage::Node start_;
  std::shared_ptr<const TokenTrie> trie_;
  std::vector<Token> end_tokens_;
  std::unordered_map<ByteLanguage::Node, Mask> masks_;
  std::vector<std::uint64_t> short_mask_;
  std::vector<ByteLanguage::Node> path_;
};

class ConstrainedText : public TokenFilter {
 public:
  explicit ConstrainedText(std::shared_ptr<TokenLanguage> language)
      : language_(std::move(language)), state_(language_->start()) {}

  Result<std::span<const std::uint64_t>> allowed(std::uint32_t tokens_left) override {
    const auto allowed = TRY(language_->allowed(state_, tokens_left));
    if (allowed.shortened) shortened_ = true;
    return allowed.bits;
  }
  void push(Token token) override { state_ = language_->after(state_, token); }
  bool shortened() const override { return shortened_; }

 private:
  std::shared_ptr<TokenLanguage> language_;
  ByteLanguage::Node state_;
  bool shortened_ = false;
};

}  // namespace baton::text
