#pragma once

#include <concepts>
#include <cstdint>

namespace baton {

// The first position that the token at `position` sees where attention reaches `window` positions back, its own
// included; 0: all of them.
template <std::unsigned_integral Position>
constexpr Position first_visible(Position position, std::uint32_t window) {
  return window == 0 || position < window ? 0 : position - window + 1;
}

}  // namespace baton
