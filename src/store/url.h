// HTTP addresses, taken apart (RFC 3986).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace baton::store {

enum class Scheme { kHttp, kHttps };

struct Url {
  Scheme scheme = Scheme::kHttps;
  std::string host;  // in lower case; an IPv6 address without its brackets
  std::uint16_t port = 443;
  std::string target = "/";  // path and query, as they go on the wire; no fragment

  // Errors: kInvalidArgument for another scheme, a user name, no host, or what must not be in a request line.
  static Result<Url> parse(std::string_view text);
  // Where a redirect from here leads: `location` is a whole address, or a part of one.
  Result<Url> resolve(std::string_view location) const;

  // What a Host header says: with the port where it is not the scheme's own.
  std::string authority() const;
  std::string to_string() const;
  bool same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
};

// "a b/c" as a path's characters: "a%20b/c".
std::string percent_encode_path(std::string_view path);

}  // namespace baton::store
