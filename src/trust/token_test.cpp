#include "trust/token.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace baton::trust {
namespace {

JoinToken example() {
  JoinToken token;
  token.cluster = sha256(as_byte_span("cluster"));
  token.issuer.digest = sha256(as_byte_span("issuer"));
  for (std::size_t i = 0; i < token.secret.size(); ++i) token.secret[i] = static_cast<std::byte>(i);
  token.expires_s = 1'800'000'000;
  token.addresses = {net::Endpoint::parse("192.0.2.7:8771").value(),
                     net::Endpoint::parse("[2001:db8::1]:8771").value()};
  return token;
}

TEST(JoinToken, ReadsWhatItWrites) {
  const JoinToken token = example();
  EXPECT_EQ(JoinToken::parse(token.to_string()).value(), token);
  JoinToken bare = token;
  bare.addresses.clear();
  EXPECT_EQ(JoinToken::parse(bare.to_string()).value(), bare);
}

TEST(JoinToken, SaysWhereItIsDamaged) {
  const std::string text = example().to_string();
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    if (changed == text) continue;
    const auto parsed = JoinToken::parse(changed);
    ASSERT_FALSE(parsed) << i;
    EXPECT_NE(parsed.error().message.find("token"), std::string::npos);
    EXPECT_FALSE(JoinToken::parse(text.substr(0, i))) << i;
  }
  EXPECT_FALSE(JoinToken::parse(text + "A"));
  EXPECT_FALSE(JoinToken::parse(std::string(5000, 'A')));
}

TEST(JoinToken, GivesBothSidesTheSameKeyAndNoOtherTokenTheSame) {
  const JoinToken token = example();
  EXPECT_EQ(token.key().public_key(), JoinToken::parse(token.to_string()).value().key().public_key());
  JoinToken other = token;
  other.secret[0] ^= std::byte{1};
  EXPECT_NE(other.key().public_key(), token.key().public_key());
  other = token;
  other.cluster = sha256(as_byte_span("other"));
  EXPECT_NE(other.key().public_key(), token.key().public_key());
}

}  // namespace
}  // namespace baton::trust
