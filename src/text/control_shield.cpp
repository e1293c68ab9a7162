#include "text/control_shield.h"

#include <algorithm>
#include <optional>

#include "text/utf8.h"

namespace baton::text {
namespace {

// A placeholder is kOpen, hexadecimal digits from kDigitZero on, kClose.
constexpr char32_t kDigitZero = 0xFDD0;
constexpr char32_t kOpen = 0xFDE0;
constexpr char32_t kClose = 0xFDEF;
constexpr std::size_t kCharacterBytes = 3;
constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";

// The character of the range at `position`, if there is one.
std::optional<char32_t> reserved_at(std::string_view text, std::size_t position) {
  const std::string_view character = text.substr(position, kCharacterBytes);
  if (character.size() < kCharacterBytes || character[0] != '\xEF' || character[1] != '\xB7') return std::nullopt;
  const char32_t code = decode_character(character);
  if (code < kDigitZero || code > kClose) return std::nullopt;
  return code;
}

std::size_t find_reserved(std::string_view text, std::size_t from) {
  for (std::size_t i = text.find("\xEF\xB7", from); i != std::string_view::npos; i = text.find("\xEF\xB7", i + 1)) {
    if (reserved_at(text, i)) return i;
  }
  return std::string_view::npos;
}

std::string clean(std::string_view bytes) {
  std::string text;
  Utf8Decoder decoder;
  decoder.push(bytes, text);
  decoder.finish(text);
  for (std::size_t i = find_reserved(text, 0); i != std::string::npos; i = find_reserved(text, i)) {
    text.replace(i, kCharacterBytes, kReplacementCharacter);
  }
  return text;
}

}  // namespace

ControlShield::ControlShield(const std::vector<std::string>& control_texts) : control_texts_(&control_texts) {
  for (const std::string& text : control_texts) finder_.add(text, 0);
}

bool has_placeholder_characters(std::string_view text) { return find_reserved(text, 0) != std::string_view::npos; }

std::string ControlShield::placeholder(std::string_view original) {
  const auto [entry, is_new] = index_.try_emplace(std::string(original), originals_.size());
  if (is_new) originals_.emplace_back(original);
  std::string text;
  append_utf8(kOpen, text);
  for (std::size_t rest = entry->second;; rest /= 16) {
    append_utf8(kDigitZero + static_cast<char32_t>(rest % 16), text);
    if (rest < 16) break;
  }
  append_utf8(kClose, text);
  return text;
}

// How much of the end of `text` is the beginning of a control token that something else could complete.
std::size_t ControlShield::dangling_length(std::string_view text) const {
  std::size_t longest = 0;
  for (const std::string& control : *control_texts_) {
    for (std::size_t length = std::min(control.size() - 1, text.size()); length > longest; --length) {
      if (text.ends_with(std::string_view(control).substr(0, length))) longest = length;
    }
  }
  return longest;
}

// The same, but for white space at the end that a template may trim, unless a token begins in it.
TextRange ControlShield::dangling_range(std::string_view text) const {
  const std::size_t trimmed = text.find_last_not_of(kWhiteSpace) + 1;
  const std::size_t bare = dangling_length(text.substr(0, trimmed));
  const std::size_t spaced = dangling_length(text);
  if (spaced == 0) return {trimmed - bare, trimmed};
  return {std::min(text.size() - spaced, bare == 0 ? text.size() : trimmed - bare), text.size()};
}

std::string ControlShield::hide(std::string_view foreign) {
  const std::string text = clean(foreign);
  std::string hidden;
  std::size_t done = 0;
  while (const auto match = finder_.find(text, done)) {
    hidden.append(text, done, match->position - done);
    hidden += placeholder(std::string_view(text).substr(match->position, match->length));
    done = match->position + match->length;
  }
  const std::string_view rest = std::string_view(text).substr(done);
  const auto [begin, end] = dangling_range(rest);
  hidden += rest.substr(0, begin);
  if (begin < end) hidden += placeholder(rest.substr(begin, end - begin));
  hidden += rest.substr(end);
  return hidden;
}

std::string ControlShield::hide_name(std::string_view foreign) {
  const auto holds = [&](const std::string& control) { return control.contains(foreign); };
  if (!foreign.empty() && std::ranges::any_of(*control_texts_, holds)) return placeholder(clean(foreign));
  return hide(foreign);
}

MarkedText ControlShield::restore(std::string_view rendered) const {
  std::string text;
  Utf8Decoder decoder;
  decoder.push(rendered, text);
  decoder.finish(text);
  MarkedText restored;
  std::size_t done = 0;
  for (std::size_t i = find_reserved(text, 0); i != std::string::npos; i = find_reserved(text, done)) {
    restored.append(std::string_view(text).substr(done, i - done));
    std::size_t index = 0;
    std::size_t scale = 1;
    std::size_t next = i + kCharacterBytes;
    std::optional<char32_t> code = *reserved_at(text, i) == kOpen ? reserved_at(text, next) : std::nullopt;
    for (; code && *code < kOpen && index < originals_.size(); code = reserved_at(text, next)) {
      index += scale * (*code - kDigitZero);
      scale *= 16;
      next += kCharacterBytes;
    }
    if (code == kClose && scale > 1 && index < originals_.size()) {
      restored.append(originals_[index], Origin::kForeign);
      done = next + kCharacterBytes;
    } else {
      restored.append(kReplacementCharacter);
      done = i + kCharacterBytes;
    }
  }
  restored.append(std::string_view(text).substr(done));
  return restored;
}

}  // namespace baton::text
