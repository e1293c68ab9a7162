#pragma once

#include <cstdint>

namespace baton {

// The first position that the token at `position` sees where attention reaches `window` positions back, its own
// included; 0: all of them.
constexpr std::uint32_t first_visible(std::uint32_t position, std::uint32_t window) {
  return window == 0 || position < window ? 0 : position - window + 1;
}

}  // namespace baton
