// The membership protocol's messages: docs/formats/membership.md. Bytes in, values out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/endpoint.h"
#include "net/fingerprint.h"

namespace baton::cluster {

inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::size_t kMaxSectionBytes = 64 * 1024;
inline constexpr std::size_t kMaxSections = 32;
inline constexpr std::size_t kMaxAddresses = 16;  // of one node
inline constexpr std::size_t kMaxStatementsAtOnce = 512;
inline constexpr std::size_t kMaxTextBytes = 128 * 1024;

struct Hello {
  std::uint16_t lowest_version = kVersion;
  std::uint16_t highest_version = kVersion;
  std::string software;
  bool operator==(const Hello&) const = default;
};

// Twice a second, so that silence means something.
struct Ping {
  std::uint64_t number = 0;
  std::int64_t time_s = 0;  // the cluster's, as the sender knows it
  Sha256 list;              // digest of the sender's member list
  bool operator==(const Ping&) const = default;
};

struct Pong {
  std::uint64_t number = 0;
  bool operator==(const Pong&) const = default;
};

// Signed by admins; not yet checked.
struct Statements {
  std::vector<Bytes> statements;
  bool operator==(const Statements&) const = default;
};

// A part of what a node says of itself, as JSON. A part is sent again only with a higher version.
struct Section {
  std::string name;
  std::uint64_t version = 0;
  std::string json;
  bool operator==(const Section&) const = default;
};

struct State {
  std::vector<Section> sections;
  bool operator==(const State&) const = default;
};

// Where the sender has met other members. A hint: who answers there must hold the member's key.
struct Addresses {
  std::map<net::Fingerprint, std::vector<net::Endpoint>> of;
  bool operator==(const Addresses&) const = default;
};

// To an admin: a new certificate, please. Answered by Certificate.
struct Renew {
  bool operator==(const Renew&) const = default;
};

struct Certificate {
  Bytes der;
  bool operator==(const Certificate&) const = default;
};

// From the bearer of a token: let this key in. Answered by Statements, Addresses and, last, Certificate; or by Refused.
struct Join {
  PublicKey key;
  Signature proof;  // by that key, over the token's key
  std::string name;
  bool operator==(const Join&) const = default;
};

// From this node's own other processes (the connection has shown its very key): a command, and what became of it.
struct Ask {
  std::string json;
  bool operator==(const Ask&) const = default;
};

struct Answer {
  std::string json;
  bool operator==(const Answer&) const = default;
};

struct Refused {
  Error error;
  bool operator==(const Refused& other) const {
    return error.code == other.error.code && error.message == other.error.message;
  }
};

using Message =
    std::variant<Hello, Ping, Pong, Statements, State, Addresses, Renew, Certificate, Join, Ask, Answer, Refused>;

// One frame. A text that is too long is cut.
Bytes encode(const Message& message);
// Errors: kProtocol.
Result<Message> decode(ByteSpan frame);

// What `proof` in Join signs.
Signature prove_join(const SigningKey& key, const net::Fingerprint& token_key);
bool proves_join(const Join& join, const net::Fingerprint& token_key);

}  // namespace baton::cluster
