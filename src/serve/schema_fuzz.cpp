// Schemas that anyone may send: compiled, and walked by what follows them in the input.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "serve/json_schema.h"
#include "text/language_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton::serve;
  using baton::text::ByteLanguage;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t border = input.find('\n');
  const auto schema = parse_json(input.substr(0, border));
  if (!schema) return 0;
  ByteLanguage language;
  JsonLanguage json(language);
  const auto start = json.values(*schema, "schema");
  if (!start || !language.close(*start)) return 0;
  baton::text::walk_to_an_end(language, *start, border == std::string_view::npos ? "" : input.substr(border + 1));
  return 0;
}
