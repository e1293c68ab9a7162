#include "net/link_emulation.h"

#include <charconv>
#include <cmath>
#include <format>

namespace baton::net {

namespace {

constexpr double kMaxLatencySeconds = 10;

bool parse_number(std::string_view text, double* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return !text.empty() && error == std::errc() && end == text.data() + text.size() && std::isfinite(*value);
}

}  // namespace

Result<LinkEmulation> LinkEmulation::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  double gigabits = 0;
  double latency_ms = 0;
  const bool readable = parse_number(text.substr(0, colon), &gigabits) &&
                        (colon == std::string_view::npos || parse_number(text.substr(colon + 1), &latency_ms));
  if (!readable || std::abs(latency_ms) > kMaxLatencySeconds * 1e3) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' is not a link: write GBIT or GBIT:LATENCY_MS, such as 10 or 0.5:0.2", text));
  }
  const LinkEmulation link{.bits_per_second = gigabits * 1e9, .latency = from_seconds(latency_ms / 1e3)};
  TRY(link.check());
  return link;
}

Result<void> LinkEmulation::check() const {
  if (!(bits_per_second >= kMinBitsPerSecond && bits_per_second <= kMaxBitsPerSecond)) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("an emulated link cannot have {} Gbit/s: {} to {} are possible", bits_per_second / 1e9,
                            kMinBitsPerSecond / 1e9, kMaxBitsPerSecond / 1e9));
  }
  if (latency < Duration::zero() || seconds(latency) > kMaxLatencySeconds) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("an emulated link cannot have a latency of {} ms: 0 to {} are possible",
                            seconds(latency) * 1e3, kMaxLatencySeconds * 1e3));
  }
  return {};
}

std::string LinkEmulation::to_string() const {
  return std::format("{} Gbit/s, {} ms (emulated)", bits_per_second / 1e9, seconds(latency) * 1e3);
}

}  // namespace baton::net
