#include "cluster/messages.h"

#include <gtest/gtest.h>

namespace baton::cluster {
namespace {

std::vector<Message> examples() {
  const SigningKey key = SigningKey::generate();
  const net::Fingerprint token{sha256(as_byte_span("token"))};
  return {Hello{1, 3, "baton 0.1"},
          Ping{7, 1'800'000'000, sha256(as_byte_span("list"))},
          Pong{7},
          Statements{{Bytes(3, std::byte{1}), Bytes()}},
          State{{{"load", 9, R"({"transfers":1})"}}},
          Addresses{{{token, {net::Endpoint::parse("[::1]:8771").value(), net::Endpoint::parse("a.b:1").value()}}}},
          Renew{},
          Certificate{Bytes(100, std::byte{2})},
          Join{key.public_key(), prove_join(key, token), "mac"},
          Ask{"{}"},
          Answer{"[]"},
          Refused{{ErrorCode::kRefused, "no", {}}}};
}

TEST(MembershipMessage, ReadsWhatItWrites) {
  for (const Message& message : examples()) {
    const auto read = decode(encode(message));
    ASSERT_TRUE(read) << message.index() << read.error().message;
    EXPECT_EQ(*read, message);
  }
}

TEST(MembershipMessage, IsRefusedWhereItIsCutOrTooLong) {
  for (const Message& message : examples()) {
    Bytes bytes = encode(message);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const auto read = decode(ByteSpan(bytes).first(size));
      ASSERT_FALSE(read) << message.index() << " up to " << size;
      EXPECT_EQ(read.error().code, ErrorCode::kProtocol);
    }
    bytes.push_back(std::byte{0});
    EXPECT_FALSE(decode(bytes));
  }
  EXPECT_FALSE(decode(Bytes(1, std::byte{99})));
}

TEST(MembershipMessage, CutsTextsThatNobodyWouldRead) {
  const auto read = decode(encode(Refused{{ErrorCode::kIo, std::string(5000, 'x'), {}}}));
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<Refused>(*read).error.message.size(), 1024u);
}

TEST(Join, IsProvedByTheKeyThatJoinsWithThatToken) {
  const SigningKey key = SigningKey::generate();
  const net::Fingerprint token{sha256(as_byte_span("token"))};
  Join join{key.public_key(), prove_join(key, token), "mac"};
  EXPECT_TRUE(proves_join(join, token));
  EXPECT_FALSE(proves_join(join, net::Fingerprint{sha256(as_byte_span("other"))}));
  join.key = SigningKey::generate().public_key();
  EXPECT_FALSE(proves_join(join, token));
}

}  // namespace
}  // namespace baton::cluster
