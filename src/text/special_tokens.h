// Finds tokens that stand for themselves in a text: the longest at the leftmost place, as a prefix tree walks it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "text/marked_text.h"

namespace baton::text {

class SpecialTokenFinder {
 public:
  struct Match {
    std::size_t position;
    std::size_t length;
    Token token;
  };

  // Where a token may be found.
  enum class Place : std::uint8_t {
    kAnywhere,
    kOwnText,  // not where it would take a byte of foreign text
  };

  SpecialTokenFinder();
  // Of equal texts the last added stands. Empty texts are never found.
  void add(std::string_view text, Token token, Place place = Place::kAnywhere);
  // The first match at or after `from`. Costs the text between, times at most the longest token's length.
  // `foreign` must be sorted and disjoint.
  std::optional<Match> find(std::string_view text, std::size_t from, std::span<const TextRange> foreign = {}) const;

 private:
  static constexpr Token kNoToken = -1;
  struct Edge {
    std::uint8_t byte;
    std::uint32_t node;
  };
  struct Node {
    std::vector<Edge> edges;
    Token token = kNoToken;
    Place place = Place::kAnywhere;
  };
  std::uint32_t child(std::uint32_t node, std::uint8_t byte) const;

  std::vector<Node> nodes_;                 // the first is the root
  std::array<std::uint32_t, 256> first_{};  // the root's children, 0 where there is none
};

}  // namespace baton::text
