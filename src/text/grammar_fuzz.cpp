// Grammars that anyone may send: compiled, and walked by what follows them in the input, behind a byte 0. A walk never
// leads where no end is in reach.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using baton::text::ByteLanguage;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t border = input.find('\0');
  ByteLanguage language;
  const auto start = baton::text::compile_grammar(input.substr(0, border), language);
  if (!start || !language.close(*start)) return 0;
  ByteLanguage::Node state = *start;
  if (border != std::string_view::npos) {
    for (const char byte : input.substr(border + 1)) {
      const ByteLanguage::Node after = language.next(state, static_cast<std::uint8_t>(byte));
      if (after != ByteLanguage::kNothing) state = after;
    }
  }
  // A shortest way on is found byte by byte.
  for (std::uint32_t steps = 0; steps < 4096 && !language.accepts(state) && !language.exhausted(); ++steps) {
    ByteLanguage::Node best = ByteLanguage::kNothing;
    for (int byte = 0; byte < 256; ++byte) {
      const ByteLanguage::Node after = language.next(state, static_cast<std::uint8_t>(byte));
      if (language.shortest(after) < language.shortest(best)) best = after;
    }
    if (language.exhausted()) return 0;
    if (language.shortest(best) != language.shortest(state) - 1) std::abort();
    state = best;
  }
  return 0;
}
