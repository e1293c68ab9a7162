#include "text/special_tokens.h"

namespace baton::text {

SpecialTokenFinder::SpecialTokenFinder() : nodes_(1) {}

void SpecialTokenFinder::add(std::string_view text, Token token) {
  if (text.empty()) return;
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[node].edges.push_back({byte, next});
      if (node == 0) first_[byte] = next;
    }
    node = next;
  }
  nodes_[node].token = token;
}

std::uint32_t SpecialTokenFinder::child(std::uint32_t node, std::uint8_t byte) const {
  if (node == 0) return first_[byte];
  for (const Edge& edge : nodes_[node].edges) {
    if (edge.byte == byte) return edge.node;
  }
  return 0;
}

std::optional<SpecialTokenFinder::Match> SpecialTokenFinder::find(std::string_view text, std::size_t from) const {
  if (nodes_.size() == 1) return std::nullopt;
  for (std::size_t start = from; start < text.size(); ++start) {
    std::optional<Match> longest;
    std::uint32_t node = 0;
    for (std::size_t i = start; i < text.size(); ++i) {
      node = child(node, static_cast<std::uint8_t>(text[i]));
      if (node == 0) break;
      if (nodes_[node].token != kNoToken) longest = Match{start, i + 1 - start, nodes_[node].token};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace baton::text
