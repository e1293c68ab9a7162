#include "base/ed25519.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/digest.h"

namespace baton {
namespace {

template <typename Array>
Array array_of(std::string_view hex) {
  const Bytes bytes = from_hex(hex).value();
  Array array;
  EXPECT_EQ(bytes.size(), array.size());
  std::ranges::copy(bytes, array.begin());
  return array;
}

// RFC 8032, 7.1, tests 1 and 3. (Their messages carry no purpose, so only the keys can be compared.)
TEST(Ed25519, MakesThePublicKeysOfTheRfc) {
  const auto public_of = [](std::string_view seed) {
    return to_hex(SigningKey::from_seed(array_of<SigningKey::Seed>(seed)).public_key().bytes);
  };
  EXPECT_EQ(public_of("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  EXPECT_EQ(public_of("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
}

TEST(Ed25519, AcceptsItsOwnSignatureAndNoOther) {
  const SigningKey key = SigningKey::generate();
  const auto message = as_byte_span("message");
  const Signature signature = key.sign("test", message);
  EXPECT_TRUE(verify(key.public_key(), "test", message, signature));
  EXPECT_EQ(key.sign("test", message), signature) << "signatures are deterministic";
  EXPECT_FALSE(verify(key.public_key(), "test", as_byte_span("massage"), signature));
  EXPECT_FALSE(verify(SigningKey::generate().public_key(), "test", message, signature));
  Signature damaged = signature;
  damaged.bytes[40] ^= std::byte{1};
  EXPECT_FALSE(verify(key.public_key(), "test", message, damaged));
}

TEST(Ed25519, BindsASignatureToItsPurpose) {
  const SigningKey key = SigningKey::generate();
  const Signature signature = key.sign("one", as_byte_span("message"));
  EXPECT_FALSE(verify(key.public_key(), "two", as_byte_span("message"), signature));
  EXPECT_FALSE(verify(key.public_key(), "on", as_byte_span("emessage"), signature));
}

}  // namespace
}  // namespace baton
