#include "text/character_set.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace baton::text {

namespace {

using Node = ByteLanguage::Node;

constexpr char32_t kLastBeforeSurrogates = 0xD7FF;
constexpr char32_t kFirstBehindSurrogates = 0xE000;
// The last characters of one, two, three and four bytes (Unicode 15, table 3-6).
constexpr std::array<char32_t, 4> kLastOfLength = {0x7F, 0x7FF, 0xFFFF, kLastCharacter};

std::string utf8_of(char32_t character) {
  std::string bytes;
  append_utf8(character, bytes);
  return bytes;
}

Node any_tail(ByteLanguage& language, std::size_t length) {
  const auto count = static_cast<std::uint32_t>(length);
  return language.repeat(language.bytes(byte_range(0x80, 0xBF)), count, count);
}

// All sequences from the one to the other, which are as long, and of which bytes behind the first are 80 to BF.
Node between(ByteLanguage& language, std::string_view first, std::string_view last) {
  const auto low = static_cast<std::uint8_t>(first.front());
  const auto high = static_cast<std::uint8_t>(last.front());
  if (first.size() == 1) return language.bytes(byte_range(low, high));
  const std::string_view first_tail = first.substr(1);
  const std::string_view last_tail = last.substr(1);
  if (low == high) return language.sequence(language.byte(first.front()), between(language, first_tail, last_tail));
  const std::string lowest(first_tail.size(), '\x80');
  const std::string highest(first_tail.size(), '\xBF');
  std::vector<Node> choices = {language.sequence(language.byte(first.front()), between(language, first_tail, highest)),
                               language.sequence(language.byte(last.front()), between(language, lowest, last_tail))};
  if (high - low > 1) {
    const ByteSet middle = byte_range(static_cast<std::uint8_t>(low + 1), static_cast<std::uint8_t>(high - 1));
    choices.push_back(language.sequence(language.bytes(middle), any_tail(language, first_tail.size())));
  }
  return language.either(std::move(choices));
}

}  // namespace

void CharacterSet::add(char32_t first, char32_t last) {
  if (first <= kLastBeforeSurrogates) ranges_.emplace_back(first, std::min(last, kLastBeforeSurrogates));
  if (last >= kFirstBehindSurrogates) ranges_.emplace_back(std::max(first, kFirstBehindSurrogates), last);
}

std::vector<CharacterSet::Range> CharacterSet::ordered() const {
  std::vector<Range> ranges = ranges_;
  std::ranges::sort(ranges);
  std::vector<Range> merged;
  for (const Range& range : ranges) {
    if (!merged.empty() && range.first <= merged.back().second + 1) {
      merged.back().second = std::max(merged.back().second, range.second);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

CharacterSet CharacterSet::complement() const {
  CharacterSet rest;
  char32_t next = 0;
  for (const auto& [first, last] : ordered()) {
    if (first > next) rest.add(next, first - 1);
    next = last + 1;
  }
  if (next <= kLastCharacter) rest.add(next, kLastCharacter);
  return rest;
}

ByteLanguage::Node CharacterSet::node(ByteLanguage& language) const {
  ByteSet single;
  std::vector<Node> choices;
  for (const auto& [first, last] : ordered()) {
    char32_t from = first;
    for (const char32_t border : kLastOfLength) {
      if (from > last || from > border) continue;
      const char32_t to = std::min(last, border);
      if (border == kLastOfLength.front()) {
        single |= byte_range(static_cast<std::uint8_t>(from), static_cast<std::uint8_t>(to));
      } else {
        choices.push_back(between(language, utf8_of(from), utf8_of(to)));
      }
      from = to + 1;
    }
  }
  if (choices.empty()) return language.bytes(single);
  choices.push_back(language.bytes(single));
  // A rule, so that what may follow each of its bytes is found once, however often and counted it stands somewhere.
  const Node rule = language.new_rule();
  language.define(rule, language.either(std::move(choices)));
  return rule;
}

}  // namespace baton::text
