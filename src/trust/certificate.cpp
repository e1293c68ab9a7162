#include "trust/certificate.h"

#include <format>

namespace baton::trust {

std::string node_uri(const Sha256& cluster, const net::Fingerprint& node) {
  return std::format("spiffe://{}/node/{}", cluster.hex(), node.to_string());
}

Result<Bytes> issue_certificate(const MemberList& list, const SigningKey& admin, const net::Fingerprint& node,
                                std::int64_t now_s, std::int64_t life_s) {
  const net::Fingerprint issuer = node_id(admin.public_key());
  const Member* member = list.find(node);
  if (!list.is_admin(issuer)) return fail(ErrorCode::kRefused, "this node is no admin of the cluster");
  if (member == nullptr) return fail(ErrorCode::kRefused, "it is no member of the cluster");
  return net::issue_certificate(admin, member->key,
                                {.subject = node,
                                 .issuer = issuer,
                                 .uri = node_uri(list.cluster(), node),
                                 .begin_s = now_s,
                                 .end_s = now_s + life_s});
}

Result<net::CertificateClaims> check_certificate(const MemberList& list, ByteSpan certificate,
                                                 const net::Fingerprint& peer, std::int64_t now_s) {
  const auto refuse = [&](std::string_view why) {
    const Member* member = list.find(peer);
    const std::string name = member != nullptr ? member->name : peer.to_string().substr(0, 12);
    return fail(ErrorCode::kRefused, std::format("{} {}", name, why));
  };
  if (list.is_revoked(peer)) return refuse("was revoked");
  if (!list.contains(peer)) return refuse("is no member of this cluster");
  const auto claims = net::read_certificate(certificate);
  if (!claims) return refuse("showed a certificate that is malformed");
  if (claims->subject != peer || claims->uri != node_uri(list.cluster(), peer)) {
    return refuse("showed a certificate that is not its own in this cluster");
  }
  const Member* issuer = list.find(claims->issuer);
  if (issuer == nullptr || issuer->role != Role::kAdmin)
    return refuse("has its certificate from somebody who is no admin");
  if (!net::is_signed_by(certificate, issuer->key)) return refuse("showed a forged certificate");
  if (claims->end_s < now_s) return refuse("has a certificate that has run out; it gets a new one from any admin");
  return *claims;
}

}  // namespace baton::trust
