#include "text/pattern.h"

#include <algorithm>
#include <format>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace baton::text {

namespace {

using Node = ByteLanguage::Node;

constexpr int kMostDepth = 64;
constexpr std::size_t kMostPatternBytes = 4096;
constexpr std::uint32_t kMostRepetitions = 10'000;

// Readers differ in whether \d, \w and \s know characters beyond ASCII: then neither they nor their opposites do here.
enum class Beyond { kNone, kAll, kUnsure };

// The characters of ASCII that a class holds, and which others.
struct CharacterClass {
  ByteSet ascii;
  Beyond beyond = Beyond::kNone;

  void add(const CharacterClass& other) {
    ascii |= other.ascii;
    if (beyond == Beyond::kNone || other.beyond == Beyond::kAll) beyond = other.beyond;
  }
  CharacterClass inverted() const {
    const Beyond others = beyond == Beyond::kNone ? Beyond::kAll : beyond == Beyond::kAll ? Beyond::kNone : beyond;
    return {~ascii & byte_range(0, 0x7F), others};
  }
};

const CharacterClass kAsciiDigits{byte_range('0', '9'), Beyond::kUnsure};
const CharacterClass kWord{byte_range('0', '9') | byte_range('A', 'Z') | byte_range('a', 'z') | byte_range('_', '_'),
                           Beyond::kUnsure};
const CharacterClass kBlank{byte_range('\t', '\r') | byte_range(' ', ' '), Beyond::kUnsure};

class Parser {
 public:
  Parser(ByteLanguage& language, std::string_view pattern, const PatternAlphabet& alphabet)
      : language_(language), text_(pattern), alphabet_(alphabet) {}

  Result<Node> whole() {
    if (text_.size() > kMostPatternBytes) return wrong("is too long");
    const Node node = TRY(alternatives(0));
    if (at_ < text_.size()) return wrong("has a ')' too many");
    return node;
  }

 private:
  std::unexpected<Error> wrong(std::string_view why) const {
    return fail(ErrorCode::kUnsupported, std::format("the pattern '{}' {} (at byte {})", text_, why, at_));
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  // At the top each alternative has its own anchors.
  Result<Node> alternatives(int depth) {
    if (depth > kMostDepth) return wrong("is nested too deeply");
    std::vector<Node> choices;
    do {
      choices.push_back(TRY(terms(depth)));
    } while (take('|'));
    return language_.either(std::move(choices));
  }

  Result<Node> terms(int depth) {
    const Node anything = language_.repeat(alphabet_.any, 0, ByteLanguage::kUnbounded);
    Node node = depth == 0 && !take('^') ? anything : ByteLanguage::kEmpty;
    bool open = depth == 0;
    while (at_ < text_.size() && text_[at_] != '|' && text_[at_] != ')') {
      if (text_[at_] == '$' && depth == 0 && (at_ + 1 == text_.size() || text_[at_ + 1] == '|')) {
        ++at_;
        open = false;
        break;
      }
      const Node one = TRY(atom(depth));
      node = language_.sequence(node, TRY(repeated(one)));
    }
    return open ? language_.sequence(node, anything) : node;
  }

  Result<Node> atom(int depth) {
    if (take('(')) {
      if (take('?') && !take(':')) return wrong("looks ahead or behind, or names a group, which is not supported");
      const Node node = TRY(alternatives(depth + 1));
      if (!take(')')) return wrong("lacks a ')'");
      return node;
    }
    if (take('[')) return written(TRY(bracketed()));
    if (take('\\')) return written(TRY(escaped()));
    const char c = text_[at_];
    if (c == '^' || c == '$') return wrong("has an anchor within, which is not supported");
    if (c == '*' || c == '+' || c == '?' || c == '{') return wrong("repeats nothing");
    if (take('.')) {
      const CharacterClass line_ends{byte_range('\n', '\n') | byte_range('\r', '\r')};
      return written(line_ends.inverted());
    }
    if (static_cast<unsigned char>(c) >= 0x80) return foreign_character();
    ++at_;
    return written({byte_range(static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c))});
  }

  // One character beyond ASCII, as it stands there.
  Node foreign_character() {
    const std::size_t begin = at_++;
    while (at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xC0U) == 0x80U) ++at_;
    return language_.literal(text_.substr(begin, at_ - begin));
  }

  Result<Node> repeated(Node node) {
    std::uint32_t least = 1;
    std::uint32_t most = 1;
    if (take('*')) {
      least = 0;
      most = ByteLanguage::kUnbounded;
    } else if (take('+')) {
      most = ByteLanguage::kUnbounded;
    } else if (take('?')) {
      least = 0;
    } else if (take('{')) {
      const auto first = number();
      if (!first) return wrong("has braces that are no count");
      least = most = *first;
      if (take(',')) most = number().value_or(ByteLanguage::kUnbounded);
      if (!take('}') || least > most || least > kMostRepetitions ||
          (most > kMostRepetitions && most != ByteLanguage::kUnbounded)) {
        return wrong("has braces that are no count, or one that is too large");
      }
    } else {
      return node;
    }
    take('?');  // whether it is greedy changes no language
    if (at_ < text_.size() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?' || text_[at_] == '{')) {
      return wrong("repeats a repetition");
    }
    return language_.repeat(node, least, most);
  }

  std::optional<std::uint32_t> number() {
    std::optional<std::uint32_t> value;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = std::min<std::uint32_t>(value.value_or(0) * 10 + static_cast<std::uint32_t>(text_[at_++] - '0'),
                                      kMostRepetitions + 1);
    }
    return value;
  }

  Result<CharacterClass> escaped() {
    if (at_ >= text_.size()) return wrong("ends with a backslash");
    const char c = text_[at_++];
    const auto one = [](char value) {
      return CharacterClass{byte_range(static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(value))};
    };
    switch (c) {
      case 'd': return kAsciiDigits;
      case 'D': return kAsciiDigits.inverted();
      case 'w': return kWord;
      case 'W': return kWord.inverted();
      case 's': return kBlank;
      case 'S': return kBlank.inverted();
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      default: break;
    }
    const bool letter_or_digit = kWord.ascii.test(static_cast<unsigned char>(c));
    if (letter_or_digit || static_cast<unsigned char>(c) >= 0x80) return wrong("has an escape that is not supported");
    return one(c);
  }

  Result<CharacterClass> bracketed() {
    CharacterClass result;
    const bool inverted = take('^');
    while (!take(']')) {
      const auto first = TRY(class_member());
      const bool range = at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']';
      if (!range) {
        result.add(first);
        continue;
      }
      ++at_;
      const auto last = TRY(class_member());
      const auto from = only_byte(first);
      const auto to = only_byte(last);
      if (!from || !to || *from > *to) return wrong("has a range that is none");
      result.add({byte_range(*from, *to)});
    }
    return inverted ? result.inverted() : result;
  }

  Result<CharacterClass> class_member() {
    if (at_ >= text_.size()) return wrong("lacks a ']'");
    if (take('\\')) return escaped();
    const auto c = static_cast<std::uint8_t>(text_[at_]);
    if (c >= 0x80) return wrong("has a class with a character beyond ASCII, which is not supported");
    ++at_;
    return CharacterClass{byte_range(c, c)};
  }

  static std::optional<std::uint8_t> only_byte(const CharacterClass& one) {
    if (one.beyond != Beyond::kNone || one.ascii.count() != 1) return std::nullopt;
    for (std::size_t byte = 0; byte < one.ascii.size(); ++byte) {
      if (one.ascii.test(byte)) return static_cast<std::uint8_t>(byte);
    }
    return std::nullopt;
  }

  // As the string of JSON writes them: quotes, backslashes and control characters are escaped.
  Node written(const CharacterClass& characters) {
    std::vector<Node> choices{
        language_.bytes(characters.ascii & byte_range(0x20, 0x7E) & ~byte_range('"', '"') & ~byte_range('\\', '\\'))};
    constexpr std::pair<char, char> kEscapes[] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'},
                                                  {'\r', 'r'}, {'\t', 't'},  {'\f', 'f'}};
    for (const auto& [byte, letter] : kEscapes) {
      if (characters.ascii.test(static_cast<std::uint8_t>(byte))) {
        choices.push_back(language_.literal(std::string{'\\', letter}));
      }
    }
    if (characters.beyond == Beyond::kAll) choices.push_back(alphabet_.beyond);
    return language_.either(std::move(choices));
  }

  ByteLanguage& language_;
  std::string_view text_;
  const PatternAlphabet& alphabet_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Node> compile_pattern(ByteLanguage& language, std::string_view pattern, const PatternAlphabet& alphabet) {
  return Parser(language, pattern, alphabet).whole();
}

}  // namespace baton::text
