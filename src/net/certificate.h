// X.509 certificates (RFC 5280) that one Ed25519 key gives another: what is in them, not whether to believe it.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/fingerprint.h"

namespace baton::net {

inline constexpr std::size_t kMaxCertificateBytes = 4096;

struct CertificateClaims {
  Fingerprint subject;       // whose key it is about
  Fingerprint issuer;        // who is said to have signed it
  std::string uri;           // the one URI among its alternative names; empty where it has none
  std::int64_t begin_s = 0;  // since 1970
  std::int64_t end_s = 0;
  bool operator==(const CertificateClaims&) const = default;
};

// DER. Errors: kInvalidArgument for times or a URI that cannot be written down.
Result<Bytes> issue_certificate(const SigningKey& issuer, const PublicKey& subject, const CertificateClaims& claims);

// Errors: kCorrupt for what is no certificate of an Ed25519 key.
Result<CertificateClaims> read_certificate(ByteSpan der);

bool is_signed_by(ByteSpan der, const PublicKey& issuer);

}  // namespace baton::net
