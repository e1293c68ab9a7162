// Names of prompt prefixes, by which nodes tell each other what they hold.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/layer_range.h"

namespace baton::handoff {

// What, beside the tokens, decides the KV of a prefix.
struct PrefixContext {
  Sha256 model;
  std::string rope;        // RoPE and context configuration, as the engine writes it
  std::string cache_type;  // "f16", "q8_0"
  std::string provenance;  // "exact", or the lossy codec that the KV went through
};

struct PrefixName {
  std::uint32_t tokens = 0;
  Sha256 name;

  bool operator==(const PrefixName&) const = default;
};

// The name of every prefix of `tokens` that ends on the grid, shortest first: name(0) = SHA-256 of the context, and
// name(n + chunk) = SHA-256(name(n) + the next chunk's token ids, little-endian). A part of a chunk at the end has no
// name. `chunk_tokens` must not be 0.
std::vector<PrefixName> prefix_names(const PrefixContext& context, std::span<const Token> tokens,
                                     std::uint32_t chunk_tokens);

}  // namespace baton::handoff
