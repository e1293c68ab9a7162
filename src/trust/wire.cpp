#include "trust/wire.h"

namespace baton::trust {

std::string printable(std::string_view text) {
  std::string safe;
  for (const char c : text.substr(0, 80)) safe += c >= ' ' && c <= '~' ? c : '?';
  return safe;
}

}  // namespace baton::trust
