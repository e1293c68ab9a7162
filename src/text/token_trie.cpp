#include "text/token_trie.h"

#include <algorithm>

namespace baton::text {

namespace {

bool gives_text(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kByte;
}

}  // namespace

TokenTrie::TokenTrie(const Vocabulary& vocabulary, std::span<const Token> marks) : bytes_(vocabulary.size()) {
  for (std::size_t index = 0; index < vocabulary.size(); ++index) {
    const auto token = static_cast<Token>(index);
    if (!gives_text(vocabulary.type(token)) && std::ranges::find(marks, token) == marks.end()) continue;
    std::string bytes = vocabulary.token_bytes(token);
    if (bytes.empty() || bytes.size() > kLongestToken) continue;
    bytes_[index] = std::move(bytes);
    tokens_.push_back(token);
  }
  std::ranges::sort(tokens_, {},
                    [&](Token token) { return std::pair<std::string_view, Token>(bytes_of(token), token); });

  std::vector<std::uint32_t> path;  // the nodes from the root to where we are
  const std::string none;
  const std::string* before = &none;
  for (std::uint32_t at = 0; at < tokens_.size(); ++at) {
    const std::string& bytes = bytes_of(tokens_[at]);
    const auto shared = static_cast<std::size_t>(
        std::mismatch(before->begin(), before->end(), bytes.begin(), bytes.end()).second - bytes.begin());
    for (; path.size() > shared; path.pop_back()) nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
    for (std::size_t depth = shared; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({.depth = static_cast<std::uint16_t>(depth), .byte = static_cast<std::uint8_t>(bytes[depth])});
    }
    Node& node = nodes_[path.back()];
    if (node.tokens++ == 0) node.first_token = at;
    depth_ = std::max(depth_, bytes.size());
    before = &bytes;
  }
  for (; !path.empty(); path.pop_back()) nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
}

}  // namespace baton::text
