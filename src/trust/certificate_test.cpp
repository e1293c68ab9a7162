#include "trust/certificate.h"

#include <gtest/gtest.h>

namespace baton::trust {
namespace {

constexpr std::int64_t kNow_s = 1'800'000'000;
constexpr std::int64_t kLife_s = 3600;

struct CertifiedPair {
  SigningKey admin = SigningKey::generate();
  SigningKey node = SigningKey::generate();
  net::Fingerprint node_fingerprint = node_id(node.public_key());
  MemberList list = MemberList::found(admin, "home", "first").value();
  Bytes certificate;

  CertifiedPair() {
    EXPECT_TRUE(list.enrol(admin, node.public_key(), "second"));
    certificate = issue_certificate(list, admin, node_fingerprint, kNow_s, kLife_s).value();
  }
  std::string why_not(std::int64_t now_s = kNow_s) const {
    const auto checked = check_certificate(list, certificate, node_fingerprint, now_s);
    if (checked) return "";
    EXPECT_EQ(checked.error().code, ErrorCode::kRefused);
    return checked.error().message;
  }
};

TEST(MemberCertificate, IsGoodForAMemberWhileItLasts) {
  const CertifiedPair scene;
  EXPECT_EQ(scene.why_not(), "");
  EXPECT_EQ(scene.why_not(kNow_s + kLife_s), "");
  EXPECT_NE(scene.why_not(kNow_s + kLife_s + 1).find("run out"), std::string::npos);
}

TEST(MemberCertificate, IsGoodForANodeWhoseClockIsLate) {
  const CertifiedPair scene;
  EXPECT_EQ(scene.why_not(kNow_s - 365 * 86400), "");
}

TEST(MemberCertificate, CarriesTheUriOfItsNode) {
  const CertifiedPair scene;
  const auto claims = net::read_certificate(scene.certificate).value();
  EXPECT_EQ(claims.uri, "spiffe://" + scene.list.cluster().hex() + "/node/" + scene.node_fingerprint.to_string());
}

TEST(MemberCertificate, EndsWithARevocationOfItsNode) {
  CertifiedPair scene;
  EXPECT_TRUE(scene.list.revoke(scene.admin, scene.node_fingerprint));
  EXPECT_NE(scene.why_not().find("revoked"), std::string::npos);
  EXPECT_FALSE(issue_certificate(scene.list, scene.admin, scene.node_fingerprint, kNow_s, kLife_s));
}

TEST(MemberCertificate, EndsWithARevocationOfItsIssuer) {
  CertifiedPair scene;
  const SigningKey other = SigningKey::generate();
  EXPECT_TRUE(scene.list.enrol(scene.admin, other.public_key(), "third"));
  EXPECT_TRUE(scene.list.promote(scene.admin, node_id(other.public_key())));
  EXPECT_TRUE(scene.list.revoke(other, node_id(scene.admin.public_key())));
  EXPECT_TRUE(scene.list.contains(scene.node_fingerprint)) << "the node itself stays";
  EXPECT_NE(scene.why_not().find("no admin"), std::string::npos);
  scene.certificate = issue_certificate(scene.list, other, scene.node_fingerprint, kNow_s, kLife_s).value();
  EXPECT_EQ(scene.why_not(), "");
}

TEST(MemberCertificate, OfAMemberByAMemberIsNone) {
  CertifiedPair scene;
  EXPECT_FALSE(issue_certificate(scene.list, scene.node, scene.node_fingerprint, kNow_s, kLife_s));
  scene.certificate = net::issue_certificate(scene.node, scene.node.public_key(),
                                             {.subject = scene.node_fingerprint,
                                              .issuer = node_id(scene.admin.public_key()),
                                              .uri = node_uri(scene.list.cluster(), scene.node_fingerprint),
                                              .begin_s = kNow_s,
                                              .end_s = kNow_s + kLife_s})
                          .value();
  EXPECT_NE(scene.why_not().find("forged"), std::string::npos);
}

TEST(MemberCertificate, OfAnotherNodeOrClusterIsRefused) {
  CertifiedPair scene;
  const CertifiedPair other;
  scene.certificate =
      issue_certificate(scene.list, scene.admin, node_id(scene.admin.public_key()), kNow_s, kLife_s).value();
  EXPECT_NE(scene.why_not().find("not its own"), std::string::npos);
  scene.certificate = other.certificate;
  EXPECT_NE(scene.why_not().find("not its own"), std::string::npos);
}

TEST(MemberCertificate, IsRefusedToAStranger) {
  const CertifiedPair scene;
  const auto checked =
      check_certificate(scene.list, scene.certificate, node_id(SigningKey::generate().public_key()), kNow_s);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message.find("no member"), std::string::npos);
}

}  // namespace
}  // namespace baton::trust
