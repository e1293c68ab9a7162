#include "net/endpoint.h"

#include "net/loopback.h"

#include <gtest/gtest.h>

namespace baton::net {
namespace {

const std::string kHex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

TEST(Endpoint, ReadsNamesAndBothKindsOfAddress) {
  EXPECT_EQ(Endpoint::parse("spark.local:7070").value(), (Endpoint{.host = "spark.local", .port = 7070}));
  EXPECT_EQ(Endpoint::parse("192.0.2.1:65535").value(), (Endpoint{.host = "192.0.2.1", .port = 65535}));
  EXPECT_EQ(Endpoint::parse("[2001:db8::1]:1").value(), (Endpoint{.host = "2001:db8::1", .port = 1}));
  EXPECT_EQ(Endpoint::parse("[fe80::1%eth0]:80").value(), (Endpoint{.host = "fe80::1%eth0", .port = 80}));
}

TEST(Endpoint, WritesWhatItReads) {
  for (const std::string text : {"spark.local:7070", "192.0.2.1:9", "[2001:db8::1]:443"}) {
    EXPECT_EQ(Endpoint::parse(text)->to_string(), text);
  }
}

TEST(Endpoint, RefusesWhatIsNotAnAddressAndSaysHowToWriteOne) {
  for (const std::string text :
       {"", "host", "host:", "host:x", "host:70000", "host:-1", "host:0", ":80", "2001:db8::1:80", "[2001:db8::1]",
        "[2001:db8::1]80", "[::1", "[host]:1", "[]:1", "ho st:1", "host/:1", "[:: 1]:1", "host:1 ", "host:+1"}) {
    const auto parsed = Endpoint::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find("host:port"), std::string::npos) << parsed.error().message;
  }
  EXPECT_FALSE(Endpoint::parse(std::string(300, 'a') + ":1"));
}

TEST(Endpoint, AListenerMayLeaveHostAndPortOpen) {
  EXPECT_EQ(Endpoint::parse_listen(":7070").value(), (Endpoint{.host = "", .port = 7070}));
  EXPECT_EQ(Endpoint::parse_listen(":0").value(), (Endpoint{.host = "", .port = 0}));
  EXPECT_EQ(Endpoint::parse_listen("[::1]:0").value(), (Endpoint{.host = "::1", .port = 0}));
  EXPECT_FALSE(Endpoint::parse_listen("7070"));
}

TEST(Loopback, IsNoNameThatOnlyLooksLikeIt) {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.8.7", "::1", "[::1]"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"", "0.0.0.0", "::", "127.example.org", "127.0.0.1.example.org", "localhost.example.org",
                           "1.2.3.4", "[127.0.0.1", "LOCALHOST:1"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

TEST(PeerAddress, HoldsAnEndpointAndAKey) {
  const auto peer = PeerAddress::parse("[::1]:7070#" + kHex);
  ASSERT_TRUE(peer) << peer.error().to_string();
  EXPECT_EQ(peer->endpoint, (Endpoint{.host = "::1", .port = 7070}));
  EXPECT_EQ(peer->fingerprint.to_string(), kHex);
  EXPECT_EQ(peer->to_string(), "[::1]:7070#" + kHex);
}

TEST(PeerAddress, NeedsTheKey) {
  EXPECT_NE(PeerAddress::parse("host:1").error().message.find("host:port#fingerprint"), std::string::npos);
  EXPECT_FALSE(PeerAddress::parse("host:1#"));
  EXPECT_FALSE(PeerAddress::parse("host#" + kHex));
}

TEST(Fingerprint, ReadsEitherCaseAndWritesLowerCase) {
  std::string upper = kHex;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  EXPECT_EQ(Fingerprint::parse(upper)->to_string(), kHex);
  EXPECT_EQ(Fingerprint::parse(upper).value(), Fingerprint::parse(kHex).value());
}

TEST(Fingerprint, RefusesAnythingButSixtyFourDigits) {
  for (const std::string& text : {std::string(), kHex.substr(1), kHex + "0", kHex.substr(2) + "xy", kHex + "00"}) {
    const auto parsed = Fingerprint::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace baton::net
