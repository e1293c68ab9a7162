// A stated network link in place of the real one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace baton::net {

// One full-duplex network interface for a whole transport: what all its connections send passes at `bits_per_second`,
// what they receive too, and what arrives is delivered `latency` later. Counted are the bytes of TLS records; a real
// link also carries TCP, IP and Ethernet headers (10GbE at 1500 byte frames moves 9.41 Gbit/s of what is counted here).
// A late wake-up is made up for, an idle link saves nothing. TCP's own connection set-up is not delayed.
struct LinkEmulation {
  double bits_per_second = 0;  // kMinBitsPerSecond to kMaxBitsPerSecond
  Duration latency{};          // one way; 0 to 10 s

  static constexpr double kMinBitsPerSecond = 1e5;
  static constexpr double kMaxBitsPerSecond = 1e11;

  // "GBIT[:LATENCY_MS]", such as "10" or "0.5:0.2".
  static Result<LinkEmulation> parse(std::string_view text);
  Result<void> check() const;
  std::string to_string() const;
};

}  // namespace baton::net
