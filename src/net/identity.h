// This machine's key, by which its peers know it.
#pragma once

#include <filesystem>
#include <memory>

#include "base/ed25519.h"
#include "base/result.h"
#include "net/fingerprint.h"

namespace baton::net {

// An Ed25519 key (RFC 8410) and a self-signed X.509 certificate that carries it. Copies share the key. Immutable, so
// safe from any thread.
class Identity {
 public:
  // Reads `folder`/identity.pem, or makes it at first use with a new key: the file for its owner only (0600), the
  // folder, where it has to be made, too (0700). Processes that come at the same time all get the same key.
  // Errors: kCorrupt for a damaged file, which is never overwritten; kIo, kNotFound from the file system.
  static Result<Identity> load_or_create(const std::filesystem::path& folder);

  // The same, of a key that is kept elsewhere or nowhere.
  static Result<Identity> from_key(const SigningKey& key);

  const Fingerprint& fingerprint() const;
  const SigningKey& signing_key() const;

  // The same key, shown with a certificate (DER) that somebody has signed for it. kInvalidArgument for another key's.
  Result<Identity> with_certificate(ByteSpan der) const;

  struct Keys;  // for this room only, see tls.h
  const std::shared_ptr<const Keys>& keys() const { return keys_; }

 private:
  explicit Identity(std::shared_ptr<const Keys> keys) : keys_(std::move(keys)) {}
  std::shared_ptr<const Keys> keys_;
};

}  // namespace baton::net
