#include "trust/statement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "trust/token.h"

namespace baton::trust {
namespace {

SigningKey key_of(std::uint8_t number) {
  SigningKey::Seed seed{};
  seed.fill(static_cast<std::byte>(number));
  return SigningKey::from_seed(seed);
}

Statement genesis() {
  Genesis body{.cluster_name = "home", .nonce = {}, .node_name = "first"};
  for (std::size_t i = 0; i < body.nonce.size(); ++i) body.nonce[i] = static_cast<std::byte>(i);
  return Statement::sign(key_of(1), {}, 1, body).value();
}

std::map<std::string, Statement> examples() {
  const Statement first = genesis();
  std::map<std::string, Statement> all;
  all.emplace("Genesis", first);
  const auto sign = [&](std::uint64_t epoch, StatementBody body) {
    return Statement::sign(key_of(1), first.cluster(), epoch, std::move(body)).value();
  };
  all.emplace("Enrolment", sign(2, Enrolment{key_of(2).public_key(), Role::kAdmin, "second"}));
  all.emplace("Revocation", sign(3, Revocation{key_of(2).public_key(), {all.at("Enrolment").digest()}}));
  return all;
}

// The block ```golden of docs/formats/membership.md: a name, then hexadecimal digits, also on lines that go on.
std::map<std::string, std::string> golden() {
  std::ifstream file(BATON_SOURCE_DIR "/docs/formats/membership.md");
  std::map<std::string, std::string> vectors;
  std::string line;
  std::string name;
  for (bool inside = false; std::getline(file, line);) {
    if (line.starts_with("```")) {
      inside = line == "```golden";
    } else if (inside) {
      std::istringstream words(line);
      std::string word;
      if (!line.starts_with(' ')) words >> name;
      while (words >> word) vectors[name] += word;
    }
  }
  return vectors;
}

TEST(Statement, IsWrittenAsTheDocumentSays) {
  const auto vectors = golden();
  for (const auto& [name, statement] : examples()) {
    ASSERT_TRUE(vectors.contains(name)) << name;
    EXPECT_EQ(to_hex(statement.bytes()), vectors.at(name)) << name;
  }
  JoinToken token;
  token.cluster = genesis().cluster();
  token.issuer = node_id(key_of(1).public_key());
  for (std::size_t i = 0; i < token.secret.size(); ++i) token.secret[i] = static_cast<std::byte>(i);
  token.expires_s = 1'800'000'000;
  token.addresses = {net::Endpoint::parse("192.0.2.7:8771").value()};
  EXPECT_EQ(token.to_string(), vectors.at("Token"));
}

TEST(Statement, ReadsWhatItWrites) {
  for (const auto& [name, statement] : examples()) {
    const Statement read = Statement::decode(statement.bytes()).value();
    EXPECT_EQ(read.body(), statement.body());
    EXPECT_EQ(read.digest(), statement.digest());
    EXPECT_EQ(read.cluster(), genesis().digest());
    EXPECT_EQ(read.issuer(), key_of(1).public_key());
    EXPECT_EQ(read.epoch(), statement.epoch());
  }
}

TEST(Statement, ThatWasChangedOrCutIsRefused) {
  for (const auto& [name, statement] : examples()) {
    const ByteSpan bytes = statement.bytes();
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      Bytes changed(bytes.begin(), bytes.end());
      changed[i] ^= std::byte{1};
      EXPECT_FALSE(Statement::decode(changed)) << name << " at " << i;
      EXPECT_FALSE(Statement::decode(bytes.first(i))) << name << " up to " << i;
    }
    Bytes longer(bytes.begin(), bytes.end());
    longer.push_back(std::byte{0});
    EXPECT_FALSE(Statement::decode(longer));
  }
}

TEST(Statement, RefusesNamesThatPlansOrTerminalsCouldMisread) {
  for (const std::string_view name : {"", "local", "a b", "a=b", "a:b", "a,b", "\x1b[31m", "\xc3\xa4"}) {
    EXPECT_FALSE(check_name(name)) << name;
  }
  EXPECT_FALSE(check_name(std::string(64, 'a')));
  EXPECT_TRUE(check_name(std::string(63, 'a')));
  EXPECT_TRUE(check_name("mac-studio.local_2"));
  EXPECT_FALSE(
      Statement::sign(key_of(1), genesis().cluster(), 2, Enrolment{key_of(2).public_key(), Role::kMember, ""}));
}

TEST(Statement, RefusesARevocationOutOfOrder) {
  std::vector<Sha256> kept = {sha256(as_byte_span("a")), sha256(as_byte_span("b"))};
  std::ranges::sort(kept, std::greater());
  EXPECT_FALSE(Statement::sign(key_of(1), genesis().cluster(), 2, Revocation{key_of(2).public_key(), kept}));
  kept.resize(1);
  kept.push_back(kept.front());
  EXPECT_FALSE(Statement::sign(key_of(1), genesis().cluster(), 2, Revocation{key_of(2).public_key(), kept}));
}

TEST(NodeId, IsTheFingerprintThatTlsShows) {
  // RFC 8410, 10.1: the public key and its SubjectPublicKeyInfo.
  PublicKey key;
  std::ranges::copy(from_hex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1").value(),
                    key.bytes.begin());
  const Bytes info =
      from_hex("302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1").value();
  EXPECT_EQ(node_id(key).digest, sha256(info));
}

}  // namespace
}  // namespace baton::trust
