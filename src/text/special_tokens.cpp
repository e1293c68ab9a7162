#include "text/special_tokens.h"

#include <algorithm>

namespace baton::text {

SpecialTokenFinder::SpecialTokenFinder() : nodes_(1) {}

void SpecialTokenFinder::add(std::string_view text, Token token, Place place) {
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
  nodes_[node].place = place;
}

std::uint32_t SpecialTokenFinder::child(std::uint32_t node, std::uint8_t byte) const {
  if (node == 0) return first_[byte];
  for (const Edge& edge : nodes_[node].edges) {
    if (edge.byte == byte) return edge.node;
  }
  return 0;
}

std::optional<SpecialTokenFinder::Match> SpecialTokenFinder::find(std::string_view text, std::size_t from,
                                                                  std::span<const TextRange> foreign) const {
  if (nodes_.size() == 1) return std::nullopt;
  // The first foreign range that does not end before the place looked at.
  auto range = std::ranges::upper_bound(foreign, from, {}, &TextRange::end);
  for (std::size_t start = from; start < text.size(); ++start) {
    while (range != foreign.end() && range->end <= start) ++range;
    const std::size_t own_end = range == foreign.end() ? text.size() : range->begin;
    std::optional<Match> longest;
    std::uint32_t node = 0;
    for (std::size_t i = start; i < text.size(); ++i) {
      node = child(node, static_cast<std::uint8_t>(text[i]));
      if (node == 0) break;
      const Node& found = nodes_[node];
      if (found.token == kNoToken || (found.place == Place::kOwnText && i >= own_end)) continue;
      longest = Match{start, i + 1 - start, found.token};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace baton::text
