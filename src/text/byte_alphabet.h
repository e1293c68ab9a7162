// GPT-2's printable alphabet for bytes: byte-level vocabularies store each byte as one character, itself where it is
// printable and not a space, else one from U+0100 on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton::text {

// The character for a byte, as UTF-8.
std::string_view byte_to_alphabet(std::uint8_t byte);

// The byte for a character, nothing where it is none of the alphabet's.
std::optional<std::uint8_t> alphabet_to_byte(char32_t code_point);

// "Ġhello" to " hello". Characters outside the alphabet, as added tokens may have, stay as they are.
std::string decode_alphabet(std::string_view stored);
void encode_alphabet(std::string_view bytes, std::string& out);

}  // namespace baton::text
