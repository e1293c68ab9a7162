#include "base/ed25519.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <cstdlib>
#include <memory>

#include "base/random.h"

namespace baton {

namespace {

struct FreeOpenssl {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeOpenssl>;
using ContextPtr = std::unique_ptr<EVP_MD_CTX, FreeOpenssl>;

const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }
unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }

// A library without Ed25519, or without memory for a key, leaves nothing that could be trusted.
void must(bool done) {
  if (!done) std::abort();
}

KeyPtr private_key(const SigningKey::Seed& seed) {
  KeyPtr key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw(seed.data()), seed.size()));
  must(key != nullptr);
  return key;
}

Bytes signed_bytes(std::string_view purpose, ByteSpan message) {
  ByteWriter out;
  out.write_bytes(as_byte_span(purpose));
  out.write(std::uint8_t{0});
  out.write_bytes(message);
  return std::move(out).take();
}

}  // namespace

bool verify(const PublicKey& key, std::string_view purpose, ByteSpan message, const Signature& signature) {
  const KeyPtr pkey(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw(key.bytes.data()), key.bytes.size()));
  const ContextPtr context(EVP_MD_CTX_new());
  const Bytes bytes = signed_bytes(purpose, message);
  const bool good = pkey && context &&
                    EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, pkey.get()) == 1 &&
                    EVP_DigestVerify(context.get(), raw(signature.bytes.data()), signature.bytes.size(),
                                     raw(bytes.data()), bytes.size()) == 1;
  ERR_clear_error();
  return good;
}

SigningKey SigningKey::from_seed(const Seed& seed) {
  const KeyPtr key = private_key(seed);
  PublicKey public_key;
  std::size_t size = public_key.bytes.size();
  must(EVP_PKEY_get_raw_public_key(key.get(), raw(public_key.bytes.data()), &size) == 1);
  return {seed, public_key};
}

SigningKey SigningKey::generate() {
  Seed seed;
  fill_random(seed);
  return from_seed(seed);
}

Signature SigningKey::sign(std::string_view purpose, ByteSpan message) const {
  const KeyPtr key = private_key(seed_);
  const ContextPtr context(EVP_MD_CTX_new());
  const Bytes bytes = signed_bytes(purpose, message);
  Signature signature;
  std::size_t size = signature.bytes.size();
  must(context && EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
       EVP_DigestSign(context.get(), raw(signature.bytes.data()), &size, raw(bytes.data()), bytes.size()) == 1);
  return signature;
}

}  // namespace baton
