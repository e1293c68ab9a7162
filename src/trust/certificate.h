// A member's certificate: an admin's word, for a short while, that a key belongs to the cluster.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/certificate.h"
#include "trust/member_list.h"

namespace baton::trust {

// "spiffe://<cluster>/node/<id>", both as 64 hexadecimal digits.
std::string node_uri(const Sha256& cluster, const net::Fingerprint& node);

// For a member, from `now_s` of the cluster's time on, for `life_s`. kRefused where `admin` is none or `node` no
// member.
Result<Bytes> issue_certificate(const MemberList& list, const SigningKey& admin, const net::Fingerprint& node,
                                std::int64_t now_s, std::int64_t life_s);

// Whether the peer that showed it, and has proved to hold its key, may take part in work now. kRefused, with the
// reason: no member (any more), not the peer's own certificate, not from an admin of today, run out. When it begins
// does not matter: only clocks could part there.
Result<net::CertificateClaims> check_certificate(const MemberList& list, ByteSpan certificate,
                                                 const net::Fingerprint& peer, std::int64_t now_s);

}  // namespace baton::trust
