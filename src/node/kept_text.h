// A text whose rows are kept after its request has ended, in the KV cache or on disk, and what a request may take of it
// (docs/adr/0014-prefix-cache.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/layer_range.h"

namespace baton::node {

// A common beginning shorter than this is computed again.
inline constexpr std::uint32_t kLeastPrefixTokens = 16;

// How rows came about.
struct PrefixOrigin {
  std::string loss;   // the lossy formats that they went through; empty: none
  std::string shape;  // all that decides their last bits: who computed what, in which chunks

  bool operator==(const PrefixOrigin&) const = default;
};

struct KeptText {
  std::vector<Token> tokens;  // computed, all of them, in `layers`
  LayerRange layers;
  PrefixOrigin origin;
  std::uint32_t exact_tokens = 0;  // of them, the first, which have the very bits that origin.shape gives

  bool operator==(const KeptText&) const = default;
};

// What a request needs, and which beginnings it may take.
struct PrefixNeed {
  std::uint32_t tokens = 0;  // room for so many
  LayerRange layers;
  PrefixOrigin origin;     // rows with a loss are only for requests that ask for the same
  std::uint32_t grid = 1;  // it begins at a multiple of this
  bool exactly = false;    // only what has the very bits that origin.shape gives
};

std::uint32_t common_length(std::span<const Token> a, std::span<const Token> b);

// Whether the request may take rows of that text.
bool suits(const PrefixNeed& need, const KeptText& text);

// Whether all of `inner` is in `outer` as well.
bool begins(const KeptText& inner, const KeptText& outer);

}  // namespace baton::node
