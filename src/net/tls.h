// OpenSSL's objects with owners, and the one configuration of TLS that baton speaks. For the sources of this room.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/fingerprint.h"
#include "net/identity.h"
#include "net/protocol.h"

namespace baton::net {

template <auto kFree>
struct OpensslFree {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpensslFree<X509_free>>;
using SslPtr = std::unique_ptr<SSL, OpensslFree<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;

struct Identity::Keys {
  KeyPtr key;
  CertificatePtr certificate;
  Fingerprint fingerprint;
  SigningKey signing_key;
};

// The newest entry of OpenSSL's error queue as text, or `fallback`; empties the queue.
std::string take_openssl_error(std::string_view fallback);

Result<Fingerprint> fingerprint_of(EVP_PKEY* key);

// Null where OpenSSL has no memory, or the bytes are no key.
KeyPtr private_key_of(const SigningKey& key);
KeyPtr public_key_of(const PublicKey& key);

// Decides on the peer's key during a handshake, and remembers what it saw.
struct PeerCheck {
  std::function<bool(const Fingerprint&)> accepts;
  // What a dialer asks for (one), and what a listener speaks.
  std::vector<Protocol> protocols = {Protocol::kWork};
  std::optional<Fingerprint> seen = {};
  Bytes certificate = {};               // DER
  Protocol protocol = Protocol::kWork;  // that both agreed on
  bool accepted = false;
};

enum class TlsSide { kDialer, kListener };

// TLS 1.3, AES-128-GCM before ChaCha20-Poly1305, X25519, Ed25519 certificates required from both ends and judged by
// PeerCheck alone. No tickets, resumption, early data, compression or renegotiation.
class TlsContext {
 public:
  static Result<std::shared_ptr<TlsContext>> create(const Identity& identity);

  // `check` must live as long as the session.
  Result<SslPtr> new_session(TlsSide side, PeerCheck* check) const;
  const Identity& identity() const { return identity_; }
  // Later sessions show this one's certificate. It is the same key.
  Result<void> present(const Identity& identity);

 private:
  TlsContext(Identity identity, SslContextPtr context) : identity_(std::move(identity)), context_(std::move(context)) {}
  Identity identity_;
  SslContextPtr context_;
};

}  // namespace baton::net
