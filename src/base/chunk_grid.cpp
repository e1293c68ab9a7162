#include "base/chunk_grid.h"

#include <algorithm>

namespace baton {

std::vector<Chunk> chunk_grid(std::uint32_t prefix_tokens, std::uint32_t prompt_tokens, std::uint32_t chunk_tokens) {
  std::vector<Chunk> chunks;
  for (std::uint64_t at = prefix_tokens; at < prompt_tokens;) {
    const std::uint64_t border = (at / chunk_tokens + 1) * chunk_tokens;
    const std::uint64_t end = std::min<std::uint64_t>(border, prompt_tokens);
    chunks.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(end - at)});
    at = end;
  }
  return chunks;
}

}  // namespace baton
