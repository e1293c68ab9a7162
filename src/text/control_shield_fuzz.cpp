// What ControlShield hides comes back as it was, and no control token that a foreign text spells, or that two of them
// spell together, is left unmarked. The input lists, each with a length byte before it, two control tokens and two
// foreign texts.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "text/control_shield.h"
#include "text/utf8.h"

namespace {

using namespace baton;
using namespace baton::text;

std::string string_or_empty(ByteReader& reader) {
  const auto text = reader.read_string<std::uint8_t>();
  return text ? std::string(*text) : std::string();
}

// Valid UTF-8 without the characters of placeholders.
bool is_plain(const std::string& text) {
  std::string repaired;
  Utf8Decoder decoder;
  decoder.push(text, repaired);
  decoder.finish(repaired);
  return repaired == text && !has_placeholder_characters(text);
}

void require(bool holds) {
  if (!holds) std::abort();
}

bool is_foreign(const MarkedText& text, std::size_t position) {
  for (const TextRange& range : text.foreign()) {
    if (position >= range.begin && position < range.end) return true;
  }
  return false;
}

// Whether the token lies somewhere with none of its bytes marked.
bool stands_unmarked(const MarkedText& text, const std::string& token) {
  for (std::size_t at = text.bytes().find(token); at != std::string::npos; at = text.bytes().find(token, at + 1)) {
    bool marked = false;
    for (std::size_t i = at; i < at + token.size(); ++i) marked = marked || is_foreign(text, i);
    if (!marked) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  ByteReader reader(std::as_bytes(std::span(bytes, size)));
  std::vector<std::string> controls;
  for (int count = 0; count < 2; ++count) {
    const std::string control = string_or_empty(reader);
    if (control.empty() || !is_plain(control)) return 0;
    controls.push_back(control);
  }
  const std::string first = string_or_empty(reader);
  const std::string second = string_or_empty(reader);
  ControlShield shield(controls);
  const std::string hidden = shield.hide(first) + shield.hide(second);
  const MarkedText restored = shield.restore(hidden);
  if (is_plain(first) && is_plain(second)) require(restored.bytes() == first + second);
  for (const std::string& control : controls) require(!stands_unmarked(restored, control));

  const MarkedText name = shield.restore(shield.hide_name(first));
  if (is_plain(first)) require(name.bytes() == first);
  (void)shield.restore(first);  // a template's own text may hold anything
  return 0;
}
