#include "net/certificate.h"

#include <gtest/gtest.h>

#include <random>

#include "net/test_support.h"

namespace baton::net {
namespace {

constexpr std::int64_t kNow_s = 1'800'000'000;

struct Issued {
  SigningKey issuer = SigningKey::generate();
  SigningKey subject = SigningKey::generate();
  Identity subject_identity = must(Identity::from_key(subject));
  CertificateClaims claims = {.subject = subject_identity.fingerprint(),
                              .issuer = must(Identity::from_key(issuer)).fingerprint(),
                              .uri = "spiffe://abc/node/def",
                              .begin_s = kNow_s,
                              .end_s = kNow_s + 60};
  Bytes der = must(issue_certificate(issuer, subject.public_key(), claims));
};

TEST(Certificate, SaysWhatWasIssued) {
  const Issued issued;
  EXPECT_EQ(must(read_certificate(issued.der)), issued.claims);
  EXPECT_TRUE(is_signed_by(issued.der, issued.issuer.public_key()));
  EXPECT_FALSE(is_signed_by(issued.der, issued.subject.public_key()));
}

TEST(Certificate, TakesTheYears2050AndLater) {
  // From 2050 on X.509 writes its times in another form.
  Issued issued;
  issued.claims.end_s = 3'000'000'000;
  issued.der = must(issue_certificate(issued.issuer, issued.subject.public_key(), issued.claims));
  EXPECT_EQ(must(read_certificate(issued.der)), issued.claims);
}

TEST(Certificate, RefusesAUriThatWouldNeedQuoting) {
  Issued issued;
  issued.claims.uri = "spiffe://abc,DNS:evil";
  const auto made = issue_certificate(issued.issuer, issued.subject.public_key(), issued.claims);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
}

TEST(Certificate, NoChangedByteStaysSigned) {
  const Issued issued;
  for (std::size_t i = 0; i < issued.der.size(); ++i) {
    Bytes changed = issued.der;
    changed[i] ^= std::byte{4};
    // Where a changed bit means nothing to X.509, what is claimed must still be the same.
    if (!is_signed_by(changed, issued.issuer.public_key())) continue;
    EXPECT_EQ(read_certificate(changed).value_or(CertificateClaims{}), issued.claims) << i;
  }
  EXPECT_FALSE(read_certificate(ByteSpan(issued.der).first(issued.der.size() - 1)));
  Bytes longer = issued.der;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(read_certificate(longer));
}

TEST(Certificate, BytesAreNoCertificate) {
  std::mt19937 random(1);
  for (const std::size_t size : {0, 1, 100, 5000}) {
    const auto read = read_certificate(random_bytes(random, size));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
  }
}

TEST(Certificate, IsShownToPeersAndReplacedByALaterOne) {
  TestLoop loop;
  TestNode near(loop);
  TestNode far(loop);
  far.listen_to(near);
  const SigningKey issuer = SigningKey::generate();
  const auto issue = [&](std::int64_t end_s) {
    const CertificateClaims claims = {.subject = near.identity.fingerprint(),
                                      .issuer = must(Identity::from_key(issuer)).fingerprint(),
                                      .uri = "spiffe://abc/node/def",
                                      .begin_s = kNow_s,
                                      .end_s = end_s};
    return must(issue_certificate(issuer, near.identity.signing_key().public_key(), claims));
  };
  for (const std::int64_t end_s : {kNow_s + 1, kNow_s + 2}) {
    const Bytes der = issue(end_s);
    EXPECT_TRUE(near.transport->present(must(near.identity.with_certificate(der))));
    const auto handler = near.connect(far);
    const ByteSpan shown = far.accepted.back()->connection->peer_certificate();
    EXPECT_EQ(Bytes(shown.begin(), shown.end()), der);
    handler->connection->close();
    EXPECT_TRUE(loop.run_until([&] { return handler->closed_count == 1; }));
  }
  EXPECT_FALSE(far.identity.with_certificate(issue(kNow_s))) << "it is another key's";
}

TEST(Protocol, IsAgreedOnInTheHandshake) {
  TestLoop loop;
  TestNode near(loop);
  TestNode far(loop);
  const auto near_only = [&](const Fingerprint& seen) { return seen == near.identity.fingerprint(); };
  far.listen(near_only, {.is_trusted = {}, .protocols = {Protocol::kWork, Protocol::kMembership}});
  for (const Protocol protocol : {Protocol::kMembership, Protocol::kWork}) {
    std::shared_ptr<Connection> connection;
    const std::size_t before = far.accepted.size();
    const auto dial = near.transport->dial(far.address(), protocol, now() + kTestPatience, [&](auto dialled) {
      connection = must(std::move(dialled));
      loop.poke();
    });
    ASSERT_TRUE(loop.run_until([&] { return connection && far.accepted.size() > before; }));
    EXPECT_EQ(connection->protocol(), protocol);
    EXPECT_EQ(far.accepted.back()->connection->protocol(), protocol);
  }
}

TEST(Protocol, ThatThePeerDoesNotSpeakIsNamedAsSuch) {
  TestLoop loop;
  TestNode near(loop);
  TestNode far(loop);
  far.listen_to(near);
  std::optional<Error> error;
  const auto dial =
      near.transport->dial(far.address(), Protocol::kMembership, now() + kTestPatience, [&](auto dialled) {
        ASSERT_FALSE(dialled);
        error = dialled.error();
        loop.poke();
      });
  ASSERT_TRUE(loop.run_until([&] { return error.has_value(); }));
  EXPECT_EQ(error->code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace baton::net
