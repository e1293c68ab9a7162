#include "text/template_parentheses.h"

#include <algorithm>
#include <array>
#include <vector>

namespace baton::text {
namespace {

// What may stand before a bracket that is no call's.
constexpr std::array<std::string_view, 14> kKeywords = {"and", "call", "elif", "else", "filter", "for", "if",
                                                        "in",  "is",   "not",  "or",   "print",  "set", "macro"};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Parenthesizer {
 public:
  explicit Parenthesizer(std::string_view source) : source_(source) {}

  std::string run() {
    while (next_ < source_.size()) {
      if (at(next_) == '{' && at(next_ + 1) == '#') {
        const std::size_t end = source_.find("#}", next_ + 2);
        copy_until(end == std::string_view::npos ? source_.size() : end + 2);
      } else if (at(next_) == '{' && (at(next_ + 1) == '{' || at(next_ + 1) == '%')) {
        read_tag();
      } else {
        copy_until(next_ + 1);
      }
    }
    return std::move(out_);
  }

 private:
  static constexpr std::size_t kNowhere = std::string::npos;

  // Places are in out_.
  struct Tag {
    bool is_set = false;
    std::size_t value = kNowhere;  // where the value begins that is set
    bool has_tuple = false;        // whether that value has a comma
    std::vector<std::size_t> calls =
        {};                       // of each open bracket: where the name begins of the function whose call it opens
    std::size_t name = kNowhere;  // where the name just read begins, if it may be a function's
    char last = '\0';             // the first character before that
  };

  char at(std::size_t position) const { return position < source_.size() ? source_[position] : '\0'; }

  void copy_until(std::size_t end) {
    out_ += source_.substr(next_, end - next_);
    next_ = end;
  }

  void read_tag() {
    const char close = at(next_ + 1) == '{' ? '}' : '%';
    copy_until(next_ + 2);
    tag_ = Tag{.is_set = is_set()};
    while (next_ < source_.size()) {
      const char c = at(next_);
      if (tag_.calls.empty() && c == close && at(next_ + 1) == '}') {
        if (tag_.has_tuple) wrap(tag_.value, out_.ends_with('-') ? out_.size() - 1 : out_.size());
        return copy_until(next_ + 2);
      }
      if (is_space(c)) {
        copy_until(next_ + 1);
        continue;
      }
      if (is_word(c)) {
        tag_.name = read_word();
      } else if (c == '"' || c == '\'') {
        copy_until(end_of_string(c));
        tag_.name = kNowhere;
      } else {
        read_sign(c);
        tag_.name = kNowhere;
      }
      tag_.last = c;
    }
  }

  void read_sign(char c) {
    copy_until(next_ + 1);
    if (c == '(' || c == '[' || c == '{') tag_.calls.push_back(c == '(' ? tag_.name : kNowhere);
    if ((c == ')' || c == ']' || c == '}') && !tag_.calls.empty()) {
      if (tag_.calls.back() != kNowhere && goes_on()) wrap(tag_.calls.back(), out_.size());
      tag_.calls.pop_back();
    }
    if (!tag_.is_set || !tag_.calls.empty()) return;
    if (c == '=' && tag_.value == kNowhere) tag_.value = out_.size();
    if (c == ',' && tag_.value != kNowhere) tag_.has_tuple = true;
  }

  void wrap(std::size_t begin, std::size_t end) {
    out_.insert(end, 1, ')');
    out_.insert(begin, 1, '(');
  }

  // Whether "set" comes next.
  bool is_set() const {
    std::size_t position = next_;
    while (is_space(at(position)) || at(position) == '-' || at(position) == '+') ++position;
    return source_.substr(position).starts_with("set") && !is_word(at(position + 3));
  }

  // Where it begins in out_, if it may be a function's name.
  std::size_t read_word() {
    const std::size_t begin = out_.size();
    std::size_t end = next_;
    while (is_word(at(end))) ++end;
    const std::string_view word = source_.substr(next_, end - next_);
    copy_until(end);
    // minja reads a method's call to its end, and a filter's is no value.
    const bool is_function = tag_.last != '.' && tag_.last != '|' && !std::ranges::contains(kKeywords, word);
    return is_function ? begin : kNowhere;
  }

  std::size_t end_of_string(char quote) const {
    std::size_t end = next_ + 1;
    while (end < source_.size() && at(end) != quote) end += at(end) == '\\' ? 2 : 1;
    return std::min(end + 1, source_.size());
  }

  bool goes_on() const {
    std::size_t position = next_;
    while (is_space(at(position))) ++position;
    return at(position) == '.' || at(position) == '[' || at(position) == '(';
  }

  std::string_view source_;
  std::size_t next_ = 0;
  std::string out_;
  Tag tag_;
};

}  // namespace

std::string add_parentheses(std::string_view source) { return Parenthesizer(source).run(); }

}  // namespace baton::text
