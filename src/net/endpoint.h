// Where a peer listens, and who it must be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/fingerprint.h"

namespace baton::net {

// A host name or a numeric IPv4 or IPv6 address (kept without brackets) and a TCP port.
struct Endpoint {
  std::string host;  // empty: every address of this machine, which only a listener may ask for
  std::uint16_t port = 0;

  // "host:port", "192.0.2.1:port" or "[2001:db8::1]:port", with a port from 1 to 65535.
  static Result<Endpoint> parse(std::string_view text);
  // For a listener: as above, and ":port", "host:0" and ":0", where 0 lets the system choose a port.
  static Result<Endpoint> parse_listen(std::string_view text);

  std::string to_string() const;  // with brackets around an IPv6 address; parses back to the same
  bool operator==(const Endpoint&) const = default;
};

// "host:port#fingerprint", as `baton node` prints it.
struct PeerAddress {
  Endpoint endpoint;
  Fingerprint fingerprint;

  static Result<PeerAddress> parse(std::string_view text);
  std::string to_string() const;
  bool operator==(const PeerAddress&) const = default;
};

}  // namespace baton::net
