// The name of a node's key.
#pragma once

#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/result.h"

namespace baton::net {

// SHA-256 of a public key's DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7); written as 64 hexadecimal digits.
struct Fingerprint {
  Sha256 digest;

  std::string to_string() const { return digest.hex(); }    // lower case
  static Result<Fingerprint> parse(std::string_view text);  // either case
  auto operator<=>(const Fingerprint&) const = default;
};

}  // namespace baton::net
