#include "text/byte_alphabet.h"

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace baton::text {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;

constexpr bool is_printable(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<std::uint8_t, 256> substituted{};  // the bytes behind U+0100, U+0101, ...
  std::size_t substitutes = 0;

  Alphabet() {
    for (unsigned byte = 0; byte < 256; ++byte) {
      char32_t code_point = byte;
      if (!is_printable(byte)) {
        code_point = kFirstSubstitute + static_cast<char32_t>(substitutes);
        substituted[substitutes++] = static_cast<std::uint8_t>(byte);
      }
      append_utf8(code_point, characters[byte]);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

std::string_view byte_to_alphabet(std::uint8_t byte) { return alphabet().characters[byte]; }

std::optional<std::uint8_t> alphabet_to_byte(char32_t code_point) {
  if (code_point < kFirstSubstitute) {
    if (!is_printable(static_cast<unsigned>(code_point))) return std::nullopt;
    return static_cast<std::uint8_t>(code_point);
  }
  const std::size_t index = code_point - kFirstSubstitute;
  if (index >= alphabet().substitutes) return std::nullopt;
  return alphabet().substituted[index];
}

std::string decode_alphabet(std::string_view stored) {
  std::string bytes;
  bytes.reserve(stored.size());
  while (!stored.empty()) {
    const std::size_t size = std::max<std::size_t>(1, valid_character_length(stored));
    const std::string_view character = stored.substr(0, size);
    const bool valid = valid_character_length(character) != 0;
    const auto byte = valid ? alphabet_to_byte(decode_character(character)) : std::nullopt;
    if (byte) {
      bytes += static_cast<char>(*byte);
    } else {
      bytes += character;
    }
    stored.remove_prefix(size);
  }
  return bytes;
}

void encode_alphabet(std::string_view bytes, std::string& out) {
  for (const char c : bytes) out += byte_to_alphabet(static_cast<std::uint8_t>(c));
}

}  // namespace baton::text
