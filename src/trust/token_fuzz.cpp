// A token that is read is written back to the same text, and its key can be made.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trust/token.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton::trust;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto token = JoinToken::parse(text);
  if (!token) return 0;
  const auto again = JoinToken::parse(token->to_string());
  if (!again || *again != *token) std::abort();
  static_cast<void>(token->key());
  return 0;
}
