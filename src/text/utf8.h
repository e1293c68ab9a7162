// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF (RFC 3629).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace baton::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";
// How SentencePiece vocabularies store a space: U+2581.
inline constexpr std::string_view kEscapedSpace = "\xE2\x96\x81";

// The length of the valid character at the front of `text`, 0 where there is none.
std::size_t valid_character_length(std::string_view text);

// The length of the longest valid piece at the front of `text`.
std::size_t valid_prefix_length(std::string_view text);

void append_utf8(char32_t code_point, std::string& out);

// The code point of a valid character.
char32_t decode_character(std::string_view character);

// Bytes in pieces of any size to valid UTF-8, with U+FFFD for each maximal part that cannot be valid.
class Utf8Decoder {
 public:
  void push(std::string_view bytes, std::string& out);
  void finish(std::string& out);
  bool waiting() const { return pending_size_ > 0; }

 private:
  void push_byte(std::uint8_t byte, std::string& out);
  void begin_character(std::uint8_t byte, std::string& out);

  char pending_[4] = {};
  std::uint8_t pending_size_ = 0;
  std::uint8_t wanted_size_ = 0;
  // The bounds of the next continuation byte: tighter than 80..BF after E0, ED, F0 and F4.
  std::uint8_t lowest_next_ = 0x80;
  std::uint8_t highest_next_ = 0xBF;
};

}  // namespace baton::text
