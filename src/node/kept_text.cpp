#include "node/kept_text.h"

#include <algorithm>

namespace baton::node {

namespace {

bool contains(LayerRange outer, LayerRange inner) { return outer.begin <= inner.begin && inner.end <= outer.end; }

}  // namespace

std::uint32_t common_length(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::uint32_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

bool suits(const PrefixNeed& need, const KeptText& text) {
  if (!contains(text.layers, need.layers)) return false;
  if (!text.origin.loss.empty() && text.origin.loss != need.origin.loss) return false;
  return !need.exactly || text.origin.shape == need.origin.shape;
}

bool begins(const KeptText& inner, const KeptText& outer) {
  const bool same_kind = contains(outer.layers, inner.layers) && inner.origin.loss == outer.origin.loss &&
                         inner.exact_tokens <= outer.exact_tokens;
  return same_kind && inner.tokens.size() <= outer.tokens.size() &&
         common_length(inner.tokens, outer.tokens) == inner.tokens.size();
}

}  // namespace baton::node
