#pragma once

#include <cstdint>
#include <vector>

namespace baton {

// Consecutive tokens of a prompt that are read in one pass.
struct Chunk {
  std::uint32_t first_position = 0;
  std::uint32_t tokens = 0;

  std::uint32_t end_position() const { return first_position + tokens; }
  bool operator==(const Chunk&) const = default;
};

// The chunks of positions prefix_tokens .. prompt_tokens. Borders are multiples of chunk_tokens counted from position
// 0, so that the same work split differently has the same shapes; the first chunk begins at prefix_tokens and the last
// is cut at the prompt's end. Empty where nothing is left; chunk_tokens must not be 0.
std::vector<Chunk> chunk_grid(std::uint32_t prefix_tokens, std::uint32_t prompt_tokens, std::uint32_t chunk_tokens);

// The last border that is not behind the prompt's end: how far of it a longer prompt on the same grid can take over.
constexpr std::uint32_t last_border(std::uint32_t prompt_tokens, std::uint32_t chunk_tokens) {
  return prompt_tokens / chunk_tokens * chunk_tokens;
}

}  // namespace baton
