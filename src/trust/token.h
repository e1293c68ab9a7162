// What a person carries from a machine in the cluster to one that is to join it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/endpoint.h"
#include "net/fingerprint.h"

namespace baton::trust {

inline constexpr std::size_t kMaxTokenAddresses = 8;

// Text of some 150 letters: "baton-join-" and base64url (RFC 4648, 5) of the bytes in docs/formats/membership.md.
// It names the cluster and the key of the node that gave it out, so whoever joins cannot be led elsewhere; and it
// carries a secret from which both sides make one more key, whose bearer that node lets in, once.
struct JoinToken {
  Sha256 cluster;
  net::Fingerprint issuer;
  std::array<std::byte, 16> secret{};
  std::int64_t expires_s = 0;  // in the cluster's time; the issuer judges it
  std::vector<net::Endpoint> addresses;

  static Result<JoinToken> parse(std::string_view text);
  std::string to_string() const;
  // The key that the bearer shows in TLS.
  SigningKey key() const;
  bool operator==(const JoinToken&) const = default;
};

}  // namespace baton::trust
