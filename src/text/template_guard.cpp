#include "text/template_guard.h"

#include <algorithm>
#include <format>
#include <utility>
#include <vector>

#include "text/control_shield.h"

namespace baton::text {
namespace {

constexpr std::size_t kMaxSourceBytes = 64UL << 10;
// minja searches all that follows at every tag: this many take some three seconds.
constexpr std::size_t kMaxTagsTimesBytes = 25'000'000;
// std::regex, which minja reads with, recurses for every character of a run.
constexpr std::size_t kMaxRunBytes = 1000;
constexpr std::size_t kMaxBrackets = 32;
constexpr std::size_t kMaxBlocks = 32;
constexpr std::size_t kMaxLoops = 5;
constexpr std::size_t kMaxTagTokens = 1000;
constexpr std::size_t kMaxFactorDigits = 3;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Guard {
 public:
  explicit Guard(std::string_view source) : source_(source) {}

  Result<std::string> run() {
    if (source_.size() > kMaxSourceBytes) {
      return refuse(std::format("it has {} bytes, more than {}", source_.size(), kMaxSourceBytes));
    }
    if (has_placeholder_characters(source_)) return refuse("it uses the noncharacters U+FDD0 to U+FDEF");
    if (source_.contains("baton_step_")) return refuse("it uses the name baton_step_");
    TRY(check_runs());
    std::string cleaned;
    while (next_ < source_.size()) {
      const std::size_t open = find_tag();
      cleaned += source_.substr(next_, open - next_);
      next_ = open;
      if (open == source_.size()) break;
      const std::size_t begin = next_;
      if (source_[open + 1] == '#') {
        cleaned += TRY(take_comment());
      } else {
        if (++tags_ * source_.size() > kMaxTagsTimesBytes) return refuse("it is too long to be parsed in good time");
        TRY(check_tag());
        cleaned += source_.substr(begin, next_ - begin);
        if (std::exchange(begins_loop_, false)) cleaned += take_step();
      }
    }
    return cleaned;
  }

 private:
  struct Word {
    char kind;  // 'n'ame, '0' number, 's'tring, or the sign itself
    std::string_view text;
  };

  std::unexpected<Error> refuse(std::string_view why) const {
    const auto line = 1 + std::count(source_.begin(), source_.begin() + static_cast<std::ptrdiff_t>(next_), '\n');
    return fail(ErrorCode::kUnsupported, std::format("the chat template is refused at line {}: {}", line, why));
  }

  Result<void> check_runs() {
    std::size_t length = 0;
    for (std::size_t i = 1; i < source_.size(); ++i) {
      const bool goes_on =
          (is_word(source_[i]) && is_word(source_[i - 1])) || (is_space(source_[i]) && is_space(source_[i - 1]));
      length = goes_on ? length + 1 : 0;
      next_ = i;
      if (length >= kMaxRunBytes) return refuse("a name or a run of white space is too long");
    }
    next_ = 0;
    return {};
  }

  std::size_t find_tag() const {
    for (std::size_t i = source_.find('{', next_); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      if (i + 1 == source_.size()) break;
      if (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#') return i;
    }
    return source_.size();
  }

  // What makes a loop look a name up in the outermost context, where the rendering is counted. A tag that keeps white
  // space as the one before it does changes nothing else.
  std::string_view take_step() {
    tags_ += 2;
    return source_[next_ - 3] == '-' ? "{%- if baton_step_ -%}{%- endif -%}" : "{% if baton_step_ %}{% endif %}";
  }

  // "{#- ... -#}" without what it says.
  Result<std::string> take_comment() {
    const std::size_t end = source_.find("#}", next_ + 2);
    if (end == std::string_view::npos) return refuse("a comment has no end '#}'");
    std::string empty = "{#";
    if (end > next_ + 2 && source_[next_ + 2] == '-') empty += '-';
    // In "{#-#}" the one dash is the first one's.
    if (end > next_ + 3 && source_[end - 1] == '-') empty += '-';
    next_ = end + 2;
    return empty + "#}";
  }

  Result<std::vector<Word>> read_words() {
    const char close = source_[next_ + 1] == '{' ? '}' : '%';
    next_ += 2;
    std::vector<Word> words;
    std::size_t brackets = 0;
    while (true) {
      while (next_ < source_.size() && is_space(source_[next_])) ++next_;
      if (next_ + 1 >= source_.size()) return refuse("a tag has no end");
      if (words.size() > kMaxTagTokens) return refuse("a tag is too long");
      const char c = source_[next_];
      if (brackets == 0 && c == close && source_[next_ + 1] == '}') {
        next_ += 2;
        return words;
      }
      const std::size_t begin = next_;
      if (c == '"' || c == '\'') {
        for (++next_; next_ < source_.size() && source_[next_] != c; ++next_) next_ += source_[next_] == '\\' ? 1 : 0;
        if (next_ >= source_.size()) return refuse("a string has no end");
        words.push_back({'s', source_.substr(begin + 1, next_++ - begin - 1)});
        continue;
      }
      if (is_word(c)) {
        while (next_ < source_.size() && is_word(source_[next_])) ++next_;
        words.push_back({is_digit(c) ? '0' : 'n', source_.substr(begin, next_ - begin)});
        continue;
      }
      if (c == '(' || c == '[' || c == '{') ++brackets;
      if ((c == ')' || c == ']' || c == '}') && brackets > 0) --brackets;
      if (brackets > kMaxBrackets) return refuse("brackets are nested too deeply");
      ++next_;
      words.push_back({c, source_.substr(begin, 1)});
    }
  }

  Result<void> check_tag() {
    const bool is_block = source_[next_ + 1] == '%';
    const std::vector<Word> words = TRY(read_words());
    if (is_block) TRY(check_block(words));
    // Of each bracket that is open: how many colons it has.
    std::vector<std::size_t> colons;
    for (std::size_t i = 0; i < words.size(); ++i) {
      const auto at = [&](std::size_t index) { return index < words.size() ? words[index] : Word{'\0', {}}; };
      const char kind = words[i].kind;
      if (kind == '(' || kind == '[' || kind == '{') colons.push_back(0);
      if ((kind == ')' || kind == ']' || kind == '}') && !colons.empty()) colons.pop_back();
      if (kind == ':' && !colons.empty() && ++colons.back() == 2) {
        const bool is_slice = i >= 2 && at(i - 1).kind == ':' && at(i - 2).kind == '[';
        const bool is_reversal = is_slice && at(i + 1).kind == '-' && at(i + 2).text == "1" && at(i + 3).kind == ']';
        // Two pairs of a dictionary have two colons too.
        if (!is_reversal && in_square_bracket(words, i)) return refuse("a slice has a step other than [::-1]");
      }
      if (kind == ',' && !colons.empty()) colons.back() = 0;
      if (kind == '%' || kind == '/') {
        const Word divisor = at(i + 1).kind == '/' ? at(i + 2) : at(i + 1);
        const bool is_number = divisor.kind == '0' && divisor.text.find_first_not_of('0') != std::string_view::npos;
        if (at(i + 1).kind == '/' && !is_number) return refuse("it divides by something else than a number");
        if (at(i - 1).kind != '/' && !is_number) return refuse("it divides by something else than a number");
      }
      if (kind == '*' && at(i + 1).kind != '*' && at(i - 1).kind != '*' && i > 0 && is_value(at(i - 1))) {
        if (at(i + 1).kind != '0' || at(i + 1).text.size() > kMaxFactorDigits) {
          return refuse("it multiplies by something else than a small number");
        }
      }
      if (kind == 'n' && words[i].text == "split" && i > 0 && words[i - 1].kind == '.' && at(i + 1).kind == '(') {
        if (at(i + 2).kind != 's' || at(i + 2).text.empty()) return refuse("it splits at something else than a text");
      }
    }
    return {};
  }

  static bool is_value(const Word& word) {
    return word.kind == 'n' || word.kind == '0' || word.kind == 's' || word.kind == ')' || word.kind == ']' ||
           word.kind == '}';
  }

  // Whether the innermost bracket around words[position] is square.
  static bool in_square_bracket(const std::vector<Word>& words, std::size_t position) {
    std::size_t closed = 0;
    for (std::size_t i = position; i-- > 0;) {
      const char kind = words[i].kind;
      if (kind == ')' || kind == ']' || kind == '}') ++closed;
      if ((kind == '(' || kind == '[' || kind == '{') && closed-- == 0) return kind == '[';
    }
    return false;
  }

  Result<void> check_block(const std::vector<Word>& words) {
    const auto* keyword = words.data();
    const auto* end = keyword + words.size();
    while (keyword != end && (keyword->kind == '-' || keyword->kind == '+')) ++keyword;
    if (keyword == end) return {};
    const std::string_view name = keyword->text;
    if (name.starts_with("end") && !blocks_.empty()) blocks_.pop_back();
    const bool opens =
        name == "if" || name == "for" || name == "macro" || name == "call" || name == "filter" ||
        name == "generation" ||
        (name == "set" && std::find_if(keyword, end, [](const Word& word) { return word.kind == '='; }) == end);
    if (!opens) return {};
    // minja would walk the outer list again and again.
    if (name == "for" && words.back().text == "recursive") return refuse("recursive loops are not supported");
    begins_loop_ = name == "for";
    blocks_.push_back(name);
    if (blocks_.size() > kMaxBlocks) return refuse("blocks are nested too deeply");
    if (std::ranges::count(blocks_, "for") > static_cast<std::ptrdiff_t>(kMaxLoops))
      return refuse("loops are nested too deeply");
    return {};
  }

  std::string_view source_;
  std::size_t next_ = 0;
  std::size_t tags_ = 0;
  bool begins_loop_ = false;
  std::vector<std::string_view> blocks_;
};

}  // namespace

Result<std::string> check_template(std::string_view source) { return Guard(source).run(); }

}  // namespace baton::text
