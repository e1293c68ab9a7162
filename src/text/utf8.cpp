#include "text/utf8.h"

namespace baton::text {
namespace {

// What the first byte of a character says: its length (0: no first byte) and the bounds of its second byte.
struct Lead {
  std::uint8_t size;
  std::uint8_t lowest_next;
  std::uint8_t highest_next;
};

Lead lead_of(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0x80, 0xBF};
  if (byte < 0xC2) return {0, 0x80, 0xBF};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0x80, 0xBF};
}

}  // namespace

std::size_t valid_character_length(std::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = lead_of(static_cast<std::uint8_t>(text[0]));
  if (lead.size > text.size()) return 0;
  for (std::size_t i = 1; i < lead.size; ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    const std::uint8_t lowest = i == 1 ? lead.lowest_next : 0x80;
    const std::uint8_t highest = i == 1 ? lead.highest_next : 0xBF;
    if (byte < lowest || byte > highest) return 0;
  }
  return lead.size;
}

std::size_t valid_prefix_length(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    if (static_cast<std::uint8_t>(text[length]) < 0x80) {
      ++length;
      continue;
    }
    const std::size_t size = valid_character_length(text.substr(length));
    if (size == 0) break;
    length += size;
  }
  return length;
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto continuation = [&](unsigned shift) { out += static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0 | (code_point >> 6));
    continuation(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0 | (code_point >> 12));
    continuation(6);
    continuation(0);
  } else {
    out += static_cast<char>(0xF0 | (code_point >> 18));
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

char32_t decode_character(std::string_view character) {
  constexpr char32_t kLeadMasks[] = {0x7F, 0x1F, 0x0F, 0x07};
  char32_t code_point = static_cast<std::uint8_t>(character[0]) & kLeadMasks[character.size() - 1];
  for (const char c : character.substr(1)) code_point = (code_point << 6) | (static_cast<std::uint8_t>(c) & 0x3F);
  return code_point;
}

void Utf8Decoder::push(std::string_view bytes, std::string& out) {
  for (const char c : bytes) push_byte(static_cast<std::uint8_t>(c), out);
}

void Utf8Decoder::finish(std::string& out) {
  if (waiting()) out += kReplacementCharacter;
  pending_size_ = 0;
}

void Utf8Decoder::push_byte(std::uint8_t byte, std::string& out) {
  if (!waiting()) return begin_character(byte, out);
  if (byte < lowest_next_ || byte > highest_next_) {
    finish(out);
    return begin_character(byte, out);
  }
  pending_[pending_size_++] = static_cast<char>(byte);
  lowest_next_ = 0x80;
  highest_next_ = 0xBF;
  if (pending_size_ < wanted_size_) return;
  out.append(pending_, pending_size_);
  pending_size_ = 0;
}

void Utf8Decoder::begin_character(std::uint8_t byte, std::string& out) {
  const Lead lead = lead_of(byte);
  if (lead.size == 0) {
    out += kReplacementCharacter;
  } else if (lead.size == 1) {
    out += static_cast<char>(byte);
  } else {
    pending_[0] = static_cast<char>(byte);
    pending_size_ = 1;
    wanted_size_ = lead.size;
    lowest_next_ = lead.lowest_next;
    highest_next_ = lead.highest_next;
  }
}

}  // namespace baton::text
