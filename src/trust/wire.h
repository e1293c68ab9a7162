// What the formats of this room share. For the sources of this room.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace baton::trust {

// Above it there would be no room to count on; nobody gets there by counting.
inline constexpr std::uint64_t kMaxEpoch = std::uint64_t{1} << 62;

template <std::size_t kSize>
Result<std::array<std::byte, kSize>> read_array(ByteReader& in) {
  const ByteSpan bytes = TRY(in.read_bytes(kSize));
  std::array<std::byte, kSize> array;
  std::ranges::copy(bytes, array.begin());
  return array;
}

// A foreign text for a message: cut short, and without what a terminal would obey.
std::string printable(std::string_view text);

}  // namespace baton::trust
