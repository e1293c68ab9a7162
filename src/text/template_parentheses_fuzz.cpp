// Any template: only parentheses are added to it.
#include "text/template_parentheses.h"

#include <cstdint>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  std::string source(reinterpret_cast<const char*>(bytes), size);
  std::string adapted = baton::text::add_parentheses(source);
  if (adapted.size() < source.size() || (adapted.size() - source.size()) % 2 != 0) std::abort();
  for (std::string* text : {&source, &adapted}) std::erase_if(*text, [](char c) { return c == '(' || c == ')'; });
  if (source != adapted) std::abort();
  return 0;
}
