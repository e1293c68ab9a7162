#include "base/number_text.h"

#include <algorithm>
#include <cmath>
#include <format>

namespace baton {

std::string number_text(double value) {
  static constexpr int kDigits = 3;
  static constexpr int kMostBehindThePoint = 9;
  if (!std::isfinite(value)) return std::format("{}", value);
  if (value == 0) return "0";
  const int before_the_point = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return std::format("{:.{}f}", value, std::clamp(kDigits - before_the_point, 0, kMostBehindThePoint));
}

}  // namespace baton
