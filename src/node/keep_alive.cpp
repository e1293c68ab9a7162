#include "node/keep_alive.h"

#include <array>
#include <charconv>
#include <cmath>
#include <format>
#include <utility>

namespace baton::node {

namespace {

// Beyond this it makes no difference.
constexpr double kLongest_s = 100.0 * 365 * 24 * 3600;

struct Unit {
  std::string_view name;
  double seconds;
};
// The longer name first where one begins like another.
constexpr std::array kUnits = {Unit{"ms", 1e-3}, Unit{"s", 1}, Unit{"m", 60}, Unit{"h", 3600}};

std::unexpected<Error> malformed(std::string_view text) {
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' is no time that a model could stay loaded: give 300, 5m, 1h30m, 0 (not at all) or -1 "
                          "(for ever)",
                          text));
}

}  // namespace

Result<Duration> keep_alive_of(double seconds) {
  if (std::isnan(seconds)) return malformed("nan");
  return seconds < 0 || seconds > kLongest_s ? kForever : from_seconds(seconds);
}

Result<Duration> parse_keep_alive(std::string_view text) {
  const bool negative = text.starts_with('-');
  std::string_view rest = text.substr(negative ? 1 : 0);
  if (rest.empty()) return malformed(text);
  double seconds = 0;
  while (!rest.empty()) {
    double number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
    // It would read "inf" and "nan", too.
    if (error != std::errc() || !std::isfinite(number) || number < 0) return malformed(text);
    const bool whole = rest.size() + negative == text.size();
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    if (rest.empty() && whole) return keep_alive_of(negative ? -1 : number);
    const Unit* unit = nullptr;
    for (const Unit& known : kUnits) {
      if (unit == nullptr && rest.starts_with(known.name)) unit = &known;
    }
    if (unit == nullptr) return malformed(text);
    seconds += number * unit->seconds;
    rest.remove_prefix(unit->name.size());
  }
  return keep_alive_of(negative ? -1 : seconds);
}

}  // namespace baton::node
