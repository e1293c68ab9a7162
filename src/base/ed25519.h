// Signatures: Ed25519 (RFC 8032).
#pragma once

#include <array>
#include <compare>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace baton {

struct PublicKey {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const PublicKey&) const = default;
};

struct Signature {
  std::array<std::byte, 64> bytes{};
  auto operator<=>(const Signature&) const = default;
};

// Every signature says what it is for (`purpose`, a text such as "baton lease 1"), so that one made for one thing is
// worth nothing for another: what is signed is the purpose, a zero byte, and the message.
bool verify(const PublicKey& key, std::string_view purpose, ByteSpan message, const Signature& signature);

// A private key. Copies hold the same key. Immutable, so safe from any thread.
class SigningKey {
 public:
  using Seed = std::array<std::byte, 32>;  // RFC 8032's private key

  static SigningKey from_seed(const Seed& seed);
  static SigningKey generate();  // from the system's generator

  const PublicKey& public_key() const { return public_key_; }
  const Seed& seed() const { return seed_; }  // whoever learns it is this key
  Signature sign(std::string_view purpose, ByteSpan message) const;

 private:
  SigningKey(const Seed& seed, const PublicKey& key) : seed_(seed), public_key_(key) {}
  Seed seed_;
  PublicKey public_key_;
};

}  // namespace baton
