#include "text/grammar_reader.h"

#include <algorithm>
#include <format>
#include <optional>
#include <utility>

#include "text/byte_language.h"
#include "text/utf8.h"

namespace baton::text {

namespace {

using Expression = Grammar::Expression;
using Kind = Expression::Kind;

constexpr std::size_t kMostGrammarBytes = 32 << 10;
constexpr std::size_t kMostRules = 500;
constexpr std::size_t kMostLevels = 48;
constexpr std::uint32_t kMostGrammarRepetitions = 1000;
constexpr std::size_t kNoLine = 0;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class GrammarReader {
 public:
  explicit GrammarReader(std::string_view text) : text_(text) {}

  Result<Grammar> read() {
    if (text_.size() > kMostGrammarBytes) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("the grammar has {} bytes, and {} are the most", text_.size(), kMostGrammarBytes));
    }
    if (const std::size_t valid = valid_prefix_length(text_); valid != text_.size()) {
      at_ = valid;
      return wrong("a byte begins no character of UTF-8");
    }
    for (skip(Lines::kOver); !at_end(); skip(Lines::kOver)) TRY(read_rule());
    for (const Grammar::Rule& rule : grammar_.rules) {
      if (rule.line == kNoLine) {
        return wrong_at(first_use_[static_cast<std::size_t>(&rule - grammar_.rules.data())],
                        std::format("there is no rule '{}'", rule.name));
      }
    }
    const auto root = std::ranges::find(grammar_.rules, "root", &Grammar::Rule::name);
    if (root == grammar_.rules.end()) {
      return fail(ErrorCode::kInvalidArgument, "there is no rule 'root', which the whole text belongs to");
    }
    grammar_.root = static_cast<std::size_t>(root - grammar_.rules.begin());
    return std::move(grammar_);
  }

 private:
  // A rule ends with its line, but within a group lines mean nothing.
  enum class Lines { kOver, kWithin };

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  std::size_t line_of(std::size_t position) const {
    return 1 + static_cast<std::size_t>(std::ranges::count(text_.substr(0, position), '\n'));
  }
  static std::unexpected<Error> wrong_at(std::size_t line, const std::string& why) {
    return fail(ErrorCode::kInvalidArgument, std::format("line {}: {}", line, why));
  }
  std::unexpected<Error> wrong(const std::string& why) const { return wrong_at(line_of(at_), why); }
  std::string what_is_here() const {
    if (at_end()) return "the grammar ends";
    if (peek() == '\n' || peek() == '\r') return "the line ends";
    return std::format("'{}' stands here", text_.substr(at_, valid_character_length(text_.substr(at_))));
  }

  // Blanks and comments.
  void skip(Lines lines) {
    while (!at_end()) {
      if (peek() == '#') {
        while (!at_end() && peek() != '\n') ++at_;
      } else if (peek() == ' ' || peek() == '\t' || (lines == Lines::kOver && (peek() == '\n' || peek() == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::size_t add(Expression expression) {
    grammar_.expressions.push_back(std::move(expression));
    return grammar_.expressions.size() - 1;
  }

  std::string take_name() {
    const std::size_t begin = at_;
    while (!at_end() && is_name_character(peek())) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  // Of a rule that is there already, or is to come.
  Result<std::size_t> rule_called(const std::string& name) {
    const auto found = std::ranges::find(grammar_.rules, name, &Grammar::Rule::name);
    if (found != grammar_.rules.end()) return static_cast<std::size_t>(found - grammar_.rules.begin());
    if (grammar_.rules.size() >= kMostRules) return wrong(std::format("more than {} rules are too many", kMostRules));
    grammar_.rules.push_back({.name = name});
    first_use_.push_back(line_of(at_));
    return grammar_.rules.size() - 1;
  }

  Result<void> read_rule() {
    const std::size_t begin = line_of(at_);
    const std::string name = take_name();
    if (name.empty()) return wrong(std::format("a rule begins with its name, and {}", what_is_here()));
    skip(Lines::kWithin);
    if (!take("::=")) return wrong(std::format("'::=' has to follow the name '{}', and {}", name, what_is_here()));
    const std::size_t rule = TRY(rule_called(name));
    if (grammar_.rules[rule].line != kNoLine) {
      return wrong_at(begin, std::format("the rule '{}' is in line {} already", name, grammar_.rules[rule].line));
    }
    grammar_.rules[rule].line = begin;
    skip(Lines::kOver);
    const std::size_t body = TRY(read_choice(Lines::kWithin, 0));
    grammar_.rules[rule].body = body;
    if (!at_end() && peek() != '\n' && peek() != '\r') {
      return wrong(std::format("the rule '{}' cannot go on so: {}", name, what_is_here()));
    }
    return {};
  }

  Result<std::size_t> read_choice(Lines lines, std::size_t level) {
    if (level > kMostLevels) return too_deep();
    Expression choice{.kind = Kind::kChoice};
    do {
      skip(Lines::kOver);
      choice.parts.push_back(TRY(read_sequence(lines, level)));
    } while (take_bar());
    return choice.parts.size() == 1 ? choice.parts.front() : add(std::move(choice));
  }

  std::unexpected<Error> too_deep() const {
    return wrong(std::format("more than {} groups or repetitions in each other are too many", kMostLevels));
  }

  // Another alternative, perhaps at the beginning of a later line.
  bool take_bar() {
    const std::size_t before = at_;
    skip(Lines::kOver);
    if (take("|")) return true;
    at_ = before;
    return false;
  }

  Result<std::size_t> read_sequence(Lines lines, std::size_t level) {
    Expression sequence{.kind = Kind::kSequence};
    while (true) {
      // Behind a rule's last item the next line is the next rule's.
      skip(lines);
      std::optional<std::size_t> item = TRY(read_item(level));
      if (!item) break;
      sequence.parts.push_back(TRY(read_repetitions(*item, lines, level)));
    }
    return sequence.parts.size() == 1 ? sequence.parts.front() : add(std::move(sequence));
  }

  // Nothing where none begins here.
  Result<std::optional<std::size_t>> read_item(std::size_t level) {
    if (at_end()) return std::nullopt;
    if (peek() == '"') return TRY(read_text());
    if (peek() == '[') return TRY(read_characters());
    if (peek() == '(') return TRY(read_group(level));
    if (take(".")) {
      Expression any{.kind = Kind::kCharacters};
      any.characters.add(0, kLastCharacter);
      return add(std::move(any));
    }
    if (peek() == '<' || peek() == '!') {
      return wrong("tokens cannot be named here: write the text that is meant in quotes");
    }
    if (!is_name_character(peek())) return std::nullopt;
    const std::string name = take_name();
    return add({ .kind = Kind::kRule, .rule = TRY(rule_called(name)) });
  }

  Result<std::size_t> read_group(std::size_t level) {
    const std::size_t begin = at_;
    ++at_;
    const std::size_t inner = TRY(read_choice(Lines::kOver, level + 1));
    if (!take(")"))
      return wrong(std::format("the '(' of line {} is not closed, and {}", line_of(begin), what_is_here()));
    return inner;
  }

  // Signs may follow signs, each of which repeats what the one before made: as deep as a group within a group.
  Result<std::size_t> read_repetitions(std::size_t item, Lines lines, std::size_t level) {
    for (;; ++level) {
      const std::size_t before = at_;
      skip(lines);
      std::uint32_t least = 0;
      std::uint32_t most = ByteLanguage::kUnbounded;
      if (take("?")) {
        most = 1;
      } else if (take("+")) {
        least = 1;
      } else if (take("{")) {
        least = TRY(read_count());
        most = least;
        if (take(",")) most = is_digit(peek()) ? TRY(read_count()) : ByteLanguage::kUnbounded;
        if (!take("}")) return wrong(std::format("a repetition is {{2}}, {{2,}} or {{2,5}}, and {}", what_is_here()));
        if (least > most)
          return wrong(std::format("no text is repeated {} times at least and {} at most", least, most));
      } else if (!take("*")) {
        at_ = before;
        return item;
      }
      if (level > kMostLevels) return too_deep();
      item = add({.kind = Kind::kRepeat, .parts = {item}, .least = least, .most = most});
    }
  }

  Result<std::uint32_t> read_count() {
    if (!is_digit(peek())) return wrong(std::format("a number is missing, and {}", what_is_here()));
    std::uint32_t count = 0;
    for (; is_digit(peek()); ++at_) {
      count = count * 10 + static_cast<std::uint32_t>(peek() - '0');
      if (count > kMostGrammarRepetitions)
        return wrong(std::format("more than {} repetitions are too many", kMostGrammarRepetitions));
    }
    return count;
  }

  Result<std::size_t> read_text() {
    const std::size_t begin = at_;
    ++at_;
    Expression made{.kind = Kind::kText};
    while (!take("\"")) {
      if (at_end()) return wrong_at(line_of(begin), "the text that begins with '\"' does not end");
      append_utf8(TRY(read_character()), made.text);
    }
    return add(std::move(made));
  }

  Result<std::size_t> read_characters() {
    const std::size_t begin = at_;
    ++at_;
    const bool others = take("^");
    Expression made{.kind = Kind::kCharacters};
    while (!take("]")) {
      if (at_end()) return wrong_at(line_of(begin), "the set that begins with '[' does not end");
      const char32_t first = TRY(read_character());
      char32_t last = first;
      if (peek() == '-' && text_.substr(at_, 2) != "-]") {
        ++at_;
        if (at_end()) continue;
        last = TRY(read_character());
      }
      if (last < first) return wrong("a set goes from a character to a later one");
      made.characters.add(first, last);
    }
    if (others) made.characters = made.characters.complement();
    if (made.characters.empty()) return wrong_at(line_of(begin), "no character is in the set");
    return add(std::move(made));
  }

  Result<char32_t> read_character() {
    if (!take("\\")) {
      const std::string_view character = text_.substr(at_, valid_character_length(text_.substr(at_)));
      at_ += character.size();
      return decode_character(character);
    }
    if (take("x")) return read_hex(2);
    if (take("u")) return read_hex(4);
    if (take("U")) return read_hex(8);
    static constexpr std::string_view kNames = "nrt\\\"[]-^";
    static constexpr std::string_view kMeant = "\n\r\t\\\"[]-^";
    const std::size_t found = at_end() ? std::string_view::npos : kNames.find(peek());
    if (found == std::string_view::npos) return wrong(std::format("'\\' means nothing where {}", what_is_here()));
    ++at_;
    return static_cast<char32_t>(kMeant[found]);
  }

  Result<char32_t> read_hex(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t digit = 0; digit < digits; ++digit, ++at_) {
      const char c = peek();
      const bool is_letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_digit(c) && !is_letter) {
        return wrong(std::format("{} hexadecimal digits are needed, and {}", digits, what_is_here()));
      }
      value = value * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value > kLastCharacter || (value >= 0xD800 && value <= 0xDFFF)) {
      return wrong(std::format("U+{:04X} is no character", static_cast<std::uint32_t>(value)));
    }
    return value;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
  Grammar grammar_;
  std::vector<std::size_t> first_use_;  // of each rule, its line
};

}  // namespace

Result<Grammar> read_grammar(std::string_view text) { return GrammarReader(text).read(); }

}  // namespace baton::text
