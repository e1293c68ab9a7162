// Grammars that anyone may send: compiled, and walked by what follows them in the input, behind a byte 0.
#include "text/grammar.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/language_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton::text;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t border = input.find('\0');
  ByteLanguage language;
  const auto start = compile_grammar(input.substr(0, border), language);
  if (!start || !language.close(*start)) return 0;
  walk_to_an_end(language, *start, border == std::string_view::npos ? "" : input.substr(border + 1));
  return 0;
}
