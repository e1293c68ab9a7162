// OpenSSL's objects with owners, and the one configuration of TLS that baton speaks. For the sources of this room.
#pragma once

#include <openssl/ssl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "net/fingerprint.h"
#include "net/identity.h"

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
};

// The newest entry of OpenSSL's error queue as text, or `fallback`; empties the queue.
std::string take_openssl_error(std::string_view fallback);

Result<Fingerprint> fingerprint_of(EVP_PKEY* key);

// Decides on the peer's key during a handshake, and remembers what it saw.
struct PeerCheck {
  std::function<bool(const Fingerprint&)> accepts;
  std::optional<Fingerprint> seen;
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

 private:
  TlsContext(Identity identity, SslContextPtr context) : identity_(std::move(identity)), context_(std::move(context)) {}
  Identity identity_;
  SslContextPtr context_;
};

}  // namespace baton::net
