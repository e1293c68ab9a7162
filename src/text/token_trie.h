// A vocabulary by its bytes: all tokens that begin alike are walked together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/vocabulary.h"

namespace baton::text {

// Immutable.
class TokenTrie {
 public:
  // A beginning, in the order of a walk: those that go on from it follow, up to `end`.
  struct Node {
    std::uint32_t end = 0;
    std::uint32_t first_token = 0;  // in tokens()
    std::uint32_t tokens = 0;       // that are spelled just so
    std::uint16_t depth = 0;        // bytes before its own
    std::uint8_t byte = 0;
  };

  // Of the tokens that give text. Control tokens give none but those in `marks`, which are read by their names.
  // Tokens of more than kLongestToken bytes are left out.
  static constexpr std::size_t kLongestToken = 1024;
  TokenTrie(const Vocabulary& vocabulary, std::span<const Token> marks);

  std::span<const Node> nodes() const { return nodes_; }
  std::span<const Token> tokens_of(const Node& node) const {
    return std::span(tokens_).subspan(node.first_token, node.tokens);
  }
  std::size_t vocabulary_size() const { return bytes_.size(); }
  std::size_t depth() const { return depth_; }  // bytes of the longest token
  // Empty for a token that is not in the trie.
  const std::string& bytes_of(Token token) const { return bytes_[static_cast<std::size_t>(token)]; }

 private:
  std::vector<Node> nodes_;
  std::vector<Token> tokens_;
  std::vector<std::string> bytes_;
  std::size_t depth_ = 0;
};

}  // namespace baton::text
