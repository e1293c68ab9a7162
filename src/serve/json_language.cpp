// The parts that JSON is made of; json_schema.cpp puts them together as a schema says.
#include <algorithm>

#include "serve/json_numbers.h"
#include "serve/json_schema.h"

namespace baton::serve {

namespace {

using text::byte_range;
using text::ByteLanguage;
using text::ByteSet;
using Node = ByteLanguage::Node;

constexpr std::uint32_t kUnbounded = ByteLanguage::kUnbounded;
constexpr std::uint32_t kMostIndent = 32;

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

}  // namespace

Node JsonLanguage::blank() {
  const Node indent = language_.repeat(language_.bytes(byte_range(' ', ' ') | byte_range('\t', '\t')), 0, kMostIndent);
  return language_.either(
      {ByteLanguage::kEmpty, language_.byte(' '), language_.sequence(language_.byte('\n'), indent)});
}

Node JsonLanguage::separator() { return language_.sequence(language_.byte(','), blank()); }

Node JsonLanguage::constant(std::string_view text) { return language_.literal(json_string(text)); }

Node JsonLanguage::member(std::string_view name, Node value) {
  return language_.sequence({constant(name), language_.byte(':'), blank(), value});
}

// Well-formed UTF-8 (Unicode 15, table 3-7) but for quotes, backslashes and control characters.
Node JsonLanguage::plain_character(const ByteSet& but_not_first) {
  const auto tail = [&](std::uint32_t count) {
    return language_.repeat(language_.bytes(byte_range(0x80, 0xBF)), count, count);
  };
  const auto lead = [&](const ByteSet& set) { return language_.bytes(set & ~but_not_first); };
  const auto of = [&](const ByteSet& first, std::uint8_t from, std::uint8_t to, std::uint32_t more) {
    return language_.sequence({lead(first), language_.bytes(byte_range(from, to)), tail(more)});
  };
  return language_.either({
      lead(byte_range(0x20, 0x7E) & ~byte_range('"', '"') & ~byte_range('\\', '\\')),
      of(byte_range(0xC2, 0xDF), 0x80, 0xBF, 0),
      of(byte_range(0xE0, 0xE0), 0xA0, 0xBF, 1),
      of(byte_range(0xE1, 0xEC) | byte_range(0xEE, 0xEF), 0x80, 0xBF, 1),
      of(byte_range(0xED, 0xED), 0x80, 0x9F, 1),
      of(byte_range(0xF0, 0xF0), 0x90, 0xBF, 2),
      of(byte_range(0xF1, 0xF3), 0x80, 0xBF, 2),
      of(byte_range(0xF4, 0xF4), 0x80, 0x8F, 2),
  });
}

// Of a string: one code point, also where it is escaped (RFC 8259, section 7); no half of a surrogate pair.
Node JsonLanguage::make_character() {
  const auto set_of = [](std::string_view bytes) {
    ByteSet set;
    for (const char byte : bytes) set.set(static_cast<std::uint8_t>(byte));
    return set;
  };
  const Node hex = language_.bytes(set_of("0123456789abcdefABCDEF"));
  const Node d = language_.bytes(set_of("dD"));
  const Node ordinary =
      language_.sequence(language_.bytes(set_of("0123456789abcefABCEF")), language_.repeat(hex, 3, 3));
  const Node below = language_.sequence({d, language_.bytes(set_of("01234567")), language_.repeat(hex, 2, 2)});
  const Node pair =
      language_.sequence({d, language_.bytes(set_of("89abAB")), language_.repeat(hex, 2, 2), language_.literal("\\u"),
                          d, language_.bytes(set_of("cdefCDEF")), language_.repeat(hex, 2, 2)});
  const Node escaped =
      language_.either({language_.bytes(set_of("\"\\/bfnrt")),
                        language_.sequence(language_.byte('u'), language_.either({ordinary, below, pair}))});
  return language_.either({plain_character({}), language_.sequence(language_.byte('\\'), escaped)});
}

// A rule, so that what may follow each of its bytes is found once for all strings, counted ones too.
Node JsonLanguage::character() {
  if (character_ == ByteLanguage::kNothing) {
    character_ = language_.new_rule();
    language_.define(character_, make_character());
  }
  return character_;
}

Node JsonLanguage::text_of(std::uint32_t least, std::uint32_t most) {
  return language_.sequence({language_.byte('"'), language_.repeat(character(), least, most), language_.byte('"')});
}

Node JsonLanguage::list(Node item, std::uint32_t least, std::uint32_t most) {
  if (most == 0) return ByteLanguage::kEmpty;
  const std::uint32_t more = most == kUnbounded ? kUnbounded : most - 1;
  const Node rest = language_.repeat(language_.sequence(separator(), item), least == 0 ? 0 : least - 1, more);
  const Node some = language_.sequence(item, rest);
  return least == 0 ? language_.optional(some) : some;
}

Node JsonLanguage::any_object() {
  const Node extra = language_.sequence({text_of(0, kUnbounded), language_.byte(':'), blank(), any_value()});
  return language_.sequence({language_.byte('{'), blank(), list(extra, 0, kUnbounded), blank(), language_.byte('}')});
}

Node JsonLanguage::any_value() {
  if (any_ != ByteLanguage::kNothing) return any_;
  any_ = language_.new_rule();
  const Node array =
      language_.sequence({language_.byte('['), blank(), list(any_, 0, kUnbounded), blank(), language_.byte(']')});
  language_.define(any_, language_.either({language_.one_of({"true", "false", "null"}), numbers(language_, {}),
                                           text_of(0, kUnbounded), array, any_object()}));
  return any_;
}

// From the last member to the first: what may follow where none has been written yet, and where some have.
Node JsonLanguage::members(const std::vector<std::pair<Node, bool>>& declared, Node extra) {
  Node at_first = list(extra, 0, extra == ByteLanguage::kNothing ? 0 : kUnbounded);
  Node later = language_.repeat(language_.sequence(separator(), extra), 0, kUnbounded);
  for (auto one = declared.rbegin(); one != declared.rend(); ++one) {
    const auto& [node, required] = *one;
    const Node written_first = language_.sequence(node, later);
    const Node written_later = language_.sequence({separator(), node, later});
    at_first = required ? written_first : language_.either({written_first, at_first});
    later = required ? written_later : language_.either({written_later, later});
  }
  return at_first;
}

// Any name but the declared ones, whose values have other schemas. Without escapes, by which those could be written
// otherwise.
Node JsonLanguage::other_key(std::vector<std::string> names) {
  std::erase_if(names, [](const std::string& name) { return json_string(name).size() != name.size() + 2; });
  std::ranges::sort(names);
  return other_key(names, 0, names.size(), 0);
}

Node JsonLanguage::other_key(const std::vector<std::string>& names, std::size_t begin, std::size_t end,
                             std::size_t depth) {
  const Node any = language_.repeat(plain_character({}), 0, kUnbounded);
  if (begin == end) return any;
  const bool is_name = names[begin].size() == depth;
  const std::size_t first = is_name ? begin + 1 : begin;
  const bool in_character = first < end && continues_character(names[first][depth]);
  std::vector<Node> choices;
  if (!is_name && !in_character) choices.push_back(ByteLanguage::kEmpty);
  ByteSet taken;
  for (std::size_t from = first; from < end;) {
    std::size_t to = from;
    while (to < end && names[to][depth] == names[from][depth]) ++to;
    taken.set(static_cast<std::uint8_t>(names[from][depth]));
    choices.push_back(language_.sequence(language_.byte(names[from][depth]), other_key(names, from, to, depth + 1)));
    from = to;
  }
  if (!in_character) choices.push_back(language_.sequence(plain_character(taken), any));
  return language_.either(std::move(choices));
}

}  // namespace baton::serve
