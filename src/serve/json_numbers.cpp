#include "serve/json_numbers.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace baton::serve {

namespace {

using text::byte_range;
using text::ByteLanguage;
using Node = ByteLanguage::Node;

constexpr std::uint32_t kMostFractionDigits = 15;

Node digits(ByteLanguage& language, char first, char last) {
  if (first > last) return ByteLanguage::kNothing;
  return language.bytes(byte_range(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(last)));
}

Node any_digits(ByteLanguage& language, std::size_t count) {
  const auto exactly = static_cast<std::uint32_t>(count);
  return language.repeat(digits(language, '0', '9'), exactly, exactly);
}

enum class Side { kAtLeast, kAtMost };

// As many digits as `bound` has, and no less or no more than it.
Node one_sided(ByteLanguage& language, std::string_view bound, Side side) {
  if (bound.empty()) return ByteLanguage::kEmpty;
  const char first = bound[0];
  const Node apart = side == Side::kAtLeast ? digits(language, static_cast<char>(first + 1), '9')
                                            : digits(language, '0', static_cast<char>(first - 1));
  return language.either({language.sequence(language.byte(first), one_sided(language, bound.substr(1), side)),
                          language.sequence(apart, any_digits(language, bound.size() - 1))});
}

// Both have the same number of digits.
Node between(ByteLanguage& language, std::string_view least, std::string_view most) {
  if (least.empty()) return ByteLanguage::kEmpty;
  if (least[0] == most[0]) {
    return language.sequence(language.byte(least[0]), between(language, least.substr(1), most.substr(1)));
  }
  const Node inner = digits(language, static_cast<char>(least[0] + 1), static_cast<char>(most[0] - 1));
  return language.either(
      {language.sequence(language.byte(least[0]), one_sided(language, least.substr(1), Side::kAtLeast)),
       language.sequence(inner, any_digits(language, least.size() - 1)),
       language.sequence(language.byte(most[0]), one_sided(language, most.substr(1), Side::kAtMost))});
}

// Neither is negative.
Node unsigned_numbers(ByteLanguage& language, std::int64_t least, std::int64_t most) {
  std::vector<Node> choices;
  std::int64_t first = 0;  // the least and the greatest number of as many digits
  std::int64_t last = 9;
  while (first <= most) {
    const std::int64_t from = std::max(first, least);
    const std::int64_t to = std::min(last, most);
    if (from <= to) choices.push_back(between(language, std::to_string(from), std::to_string(to)));
    first = last + 1;
    last = last * 10 + 9;
  }
  return language.either(std::move(choices));
}

std::int64_t clamped(double value) {
  const auto largest = static_cast<double>(kLargestWritten);
  return static_cast<std::int64_t>(std::clamp(value, -largest - 1, largest + 1));
}

}  // namespace

Node whole_numbers(ByteLanguage& language, std::int64_t least, std::int64_t most) {
  least = std::max(least, -kLargestWritten);
  most = std::min(most, kLargestWritten);
  if (least > most) return ByteLanguage::kNothing;
  std::vector<Node> choices;
  if (most >= 0) choices.push_back(unsigned_numbers(language, std::max<std::int64_t>(least, 0), most));
  if (least < 0) {
    const Node negative = unsigned_numbers(language, std::max<std::int64_t>(-most, 1), -least);
    choices.push_back(language.sequence(language.byte('-'), negative));
  }
  return language.either(std::move(choices));
}

std::int64_t NumberBounds::least_whole() const {
  std::int64_t least = -kLargestWritten;
  if (minimum) least = std::max(least, clamped(std::ceil(*minimum)));
  if (exclusive_minimum) least = std::max(least, clamped(std::floor(*exclusive_minimum) + 1));
  return least;
}

std::int64_t NumberBounds::most_whole() const {
  std::int64_t most = kLargestWritten;
  if (maximum) most = std::min(most, clamped(std::floor(*maximum)));
  if (exclusive_maximum) most = std::min(most, clamped(std::ceil(*exclusive_maximum) - 1));
  return most;
}

Node numbers(ByteLanguage& language, const NumberBounds& bounds) {
  const Node digit = digits(language, '0', '9');
  const Node fraction = language.sequence(language.byte('.'), language.repeat(digit, 1, kMostFractionDigits));
  if (!bounds.any()) {
    const Node sign = language.bytes(byte_range('+', '+') | byte_range('-', '-'));
    const Node exponent = language.sequence({language.bytes(byte_range('e', 'e') | byte_range('E', 'E')),
                                             language.optional(sign), language.repeat(digit, 1, 2)});
    return language.sequence({language.optional(language.byte('-')), unsigned_numbers(language, 0, kLargestWritten),
                              language.optional(fraction), language.optional(exponent)});
  }
  const std::int64_t least = bounds.least_whole();
  const std::int64_t most = bounds.most_whole();
  std::vector<Node> choices{whole_numbers(language, least, most)};
  // "4.7" lies between 4 and 5, "-4.7" between -5 and -4: both ends have to be within.
  const std::int64_t lowest = bounds.minimum || bounds.exclusive_minimum
                                  ? clamped(std::ceil(std::max(bounds.minimum.value_or(-INFINITY),
                                                               bounds.exclusive_minimum.value_or(-INFINITY))))
                                  : -kLargestWritten;
  const std::int64_t highest = bounds.maximum || bounds.exclusive_maximum
                                   ? clamped(std::floor(std::min(bounds.maximum.value_or(INFINITY),
                                                                 bounds.exclusive_maximum.value_or(INFINITY))))
                                   : kLargestWritten;
  const std::int64_t first = std::max<std::int64_t>(least, 0);
  if (first <= highest - 1) {
    choices.push_back(language.sequence(unsigned_numbers(language, first, highest - 1), fraction));
  }
  const std::int64_t first_negative = std::max<std::int64_t>(-most, 0);
  if (first_negative <= -lowest - 1) {
    choices.push_back(
        language.sequence({language.byte('-'), unsigned_numbers(language, first_negative, -lowest - 1), fraction}));
  }
  return language.either(std::move(choices));
}

}  // namespace baton::serve
