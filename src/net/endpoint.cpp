#include "net/endpoint.h"

#include <charconv>
#include <format>

namespace baton::net {

namespace {

std::unexpected<Error> bad_endpoint(std::string_view text, std::string_view problem) {
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' is not an address: {}; write host:port or [IPv6 address]:port", text, problem));
}

bool is_host_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
}

bool is_ipv6_character(char c) {
  // '%' and letters for a zone, as in fe80::1%eth0
  return is_host_character(c) || c == ':' || c == '%';
}

// Takes both forms; what is empty or 0 is for the callers to judge.
Result<Endpoint> split(std::string_view text) {
  std::string_view host;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return bad_endpoint(text, "the ']' is missing");
    host = text.substr(1, end - 1);
    if (host.find(':') == std::string_view::npos) return bad_endpoint(text, "brackets hold an IPv6 address only");
    for (const char c : host) {
      if (!is_ipv6_character(c)) return bad_endpoint(text, "the host has a character that no host name has");
    }
    if (end + 1 >= text.size() || text[end + 1] != ':') return bad_endpoint(text, "the port is missing");
    port = text.substr(end + 2);
  } else {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return bad_endpoint(text, "the port is missing");
    host = text.substr(0, colon);
    if (host.find(':') != std::string_view::npos) return bad_endpoint(text, "an IPv6 address needs brackets");
    for (const char c : host) {
      if (!is_host_character(c)) return bad_endpoint(text, "the host has a character that no host name has");
    }
    port = text.substr(colon + 1);
  }
  if (host.size() > 253) return bad_endpoint(text, "the host name is too long");
  Endpoint endpoint{.host = std::string(host), .port = 0};
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (port.empty() || error != std::errc() || end != port.data() + port.size()) {
    return bad_endpoint(text, "the port must be a number up to 65535");
  }
  return endpoint;
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) {
  Endpoint endpoint = TRY(split(text));
  if (endpoint.host.empty()) return bad_endpoint(text, "the host is missing");
  if (endpoint.port == 0) return bad_endpoint(text, "nobody can be reached at port 0");
  return endpoint;
}

Result<Endpoint> Endpoint::parse_listen(std::string_view text) { return split(text); }

std::string Endpoint::to_string() const {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? std::format("[{}]:{}", host, port) : std::format("{}:{}", host, port);
}

Result<PeerAddress> PeerAddress::parse(std::string_view text) {
  const std::size_t hash = text.find('#');
  if (hash == std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' does not say which key the peer has: write host:port#fingerprint, as the peer's "
                            "'baton node' prints it",
                            text));
  }
  PeerAddress address;
  address.endpoint = TRY(Endpoint::parse(text.substr(0, hash)));
  address.fingerprint = TRY(Fingerprint::parse(text.substr(hash + 1)));
  return address;
}

std::string PeerAddress::to_string() const { return endpoint.to_string() + "#" + fingerprint.to_string(); }

Result<Fingerprint> Fingerprint::parse(std::string_view text) {
  auto digest = Sha256::parse(text);
  if (!digest) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("'{}' is not a fingerprint: it needs 64 hexadecimal digits, as 'baton id' prints them", text));
  }
  return Fingerprint{*digest};
}

}  // namespace baton::net
