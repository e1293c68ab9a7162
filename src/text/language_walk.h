// For fuzzers: a walk through a language that was closed. It never leads where no end is in reach, or it aborts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/byte_language.h"

namespace baton::text {

// By the bytes that are allowed, and then by a shortest way on, which is found byte by byte.
inline void walk_to_an_end(ByteLanguage& language, ByteLanguage::Node state, std::string_view bytes) {
  for (const char byte : bytes) {
    const ByteLanguage::Node after = language.next(state, static_cast<std::uint8_t>(byte));
    if (after != ByteLanguage::kNothing) state = after;
  }
  for (std::uint32_t steps = 0; steps < 4096 && !language.accepts(state) && !language.exhausted(); ++steps) {
    ByteLanguage::Node best = ByteLanguage::kNothing;
    for (int byte = 0; byte < 256; ++byte) {
      const ByteLanguage::Node after = language.next(state, static_cast<std::uint8_t>(byte));
      if (language.shortest(after) < language.shortest(best)) best = after;
    }
    if (language.exhausted()) return;
    if (language.shortest(best) != language.shortest(state) - 1) std::abort();
    state = best;
  }
}

}  // namespace baton::text
