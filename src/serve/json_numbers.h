// Numbers within bounds, as JSON writes them. Of the numbers that JSON can write those of up to 15 digits: what every
// reader takes for the same.
#pragma once

#include <cstdint>
#include <optional>

#include "text/byte_language.h"

namespace baton::serve {

inline constexpr std::int64_t kLargestWritten = 999'999'999'999'999;

// kNothing where there is none from `least` to `most`.
text::ByteLanguage::Node whole_numbers(text::ByteLanguage& language, std::int64_t least, std::int64_t most);

struct NumberBounds {
  std::optional<double> minimum;
  std::optional<double> maximum;
  std::optional<double> exclusive_minimum;
  std::optional<double> exclusive_maximum;

  bool any() const { return minimum || maximum || exclusive_minimum || exclusive_maximum; }
  // The whole numbers within; none where least > most.
  std::int64_t least_whole() const;
  std::int64_t most_whole() const;
};

// With fractions only where everything between two whole numbers lies within the bounds.
text::ByteLanguage::Node numbers(text::ByteLanguage& language, const NumberBounds& bounds);

}  // namespace baton::serve
