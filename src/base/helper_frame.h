// For the two sides of helper_process.h: what stands before a request's or an answer's bytes.
#pragma once

#include <cstdint>
#include <string_view>

namespace baton {

using FrameLength = std::uint32_t;

// Borrows the length.
inline std::string_view bytes_of(const FrameLength& length) {
  return {reinterpret_cast<const char*>(&length), sizeof length};
}

}  // namespace baton
