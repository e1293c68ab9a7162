#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <format>

namespace baton::net {

namespace {

constexpr long kMaxCertificateListBytes = 16 * 1024;

int check_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

Bytes encode(X509* certificate) {
  unsigned char* encoded = nullptr;
  const int size = i2d_X509(certificate, &encoded);
  if (size <= 0) return {};
  const auto bytes = std::as_bytes(std::span(encoded, static_cast<std::size_t>(size)));
  Bytes der(bytes.begin(), bytes.end());
  OPENSSL_free(encoded);
  return der;
}

// Replaces OpenSSL's chain building: no authority vouches for anybody here, the key itself is what is known. That the
// peer holds the key is then proved by its CertificateVerify message.
int verify_peer(X509_STORE_CTX* store, void*) {
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* check = static_cast<PeerCheck*>(SSL_get_ex_data(ssl, check_index()));
  X509* certificate = X509_STORE_CTX_get0_cert(store);
  EVP_PKEY* key = certificate != nullptr ? X509_get0_pubkey(certificate) : nullptr;
  if (key != nullptr && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
    if (const auto fingerprint = fingerprint_of(key)) {
      check->seen = *fingerprint;
      check->certificate = encode(certificate);
      check->accepted = check->accepts(*fingerprint);
    }
  }
  X509_STORE_CTX_set_error(store, check->accepted ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
  return check->accepted ? 1 : 0;
}

// As ALPN writes it: a length and a name.
std::string wire_name(Protocol protocol) {
  const std::string_view name = protocol_name(protocol);
  return static_cast<char>(name.size()) + std::string(name);
}

int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  auto* check = static_cast<PeerCheck*>(SSL_get_ex_data(ssl, check_index()));
  for (const Protocol protocol : check->protocols) {
    const std::string name = wire_name(protocol);
    unsigned char* match = nullptr;
    if (SSL_select_next_proto(&match, chosen_size, reinterpret_cast<const unsigned char*>(name.data()),
                              static_cast<unsigned>(name.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
      continue;
    }
    // The match may point into what is ours, which ends with this call; the same bytes are in what was offered.
    const std::string_view all(reinterpret_cast<const char*>(offered), offered_size);
    *chosen = offered + all.find(name) + 1;
    check->protocol = protocol;
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

std::string take_openssl_error(std::string_view fallback) {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  std::string text = reason != nullptr ? reason : std::string(fallback);
  ERR_clear_error();
  return text;
}

Result<Fingerprint> fingerprint_of(EVP_PKEY* key) {
  unsigned char* encoded = nullptr;
  const int size = i2d_PUBKEY(key, &encoded);
  if (size <= 0) return fail(ErrorCode::kCorrupt, take_openssl_error("the public key cannot be encoded"));
  const Fingerprint fingerprint{sha256(std::as_bytes(std::span(encoded, static_cast<std::size_t>(size))))};
  OPENSSL_free(encoded);
  return fingerprint;
}

KeyPtr private_key_of(const SigningKey& key) {
  return KeyPtr(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(key.seed().data()), key.seed().size()));
}

KeyPtr public_key_of(const PublicKey& key) {
  return KeyPtr(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(key.bytes.data()), key.bytes.size()));
}

Result<std::shared_ptr<TlsContext>> TlsContext::create(const Identity& identity) {
  ERR_clear_error();
  SslContextPtr context(SSL_CTX_new(TLS_method()));
  SSL_CTX* ctx = context.get();
  const bool configured =
      ctx != nullptr && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
      SSL_CTX_set1_groups_list(ctx, "X25519:P-256") == 1 && SSL_CTX_set1_sigalgs_list(ctx, "ed25519") == 1 &&
      SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_use_certificate(ctx, identity.keys()->certificate.get()) == 1 &&
      SSL_CTX_use_PrivateKey(ctx, identity.keys()->key.get()) == 1 && SSL_CTX_check_private_key(ctx) == 1;
  if (!configured) {
    return fail(ErrorCode::kInternal, std::format("cannot set up TLS: {}", take_openssl_error("unknown error")));
  }
  SSL_CTX_set_options(
      ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_clear_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(ctx, kMaxCertificateListBytes);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, verify_peer, nullptr);
  SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, nullptr);
  // OpenSSL's own read-ahead moves all that it has read to the front for every record; TlsStream reads ahead instead.
  SSL_CTX_set_read_ahead(ctx, 0);
  return std::shared_ptr<TlsContext>(new TlsContext(identity, std::move(context)));
}

Result<void> TlsContext::present(const Identity& identity) {
  ERR_clear_error();
  if (identity.fingerprint() != identity_.fingerprint() ||
      SSL_CTX_use_certificate(context_.get(), identity.keys()->certificate.get()) != 1) {
    return fail(ErrorCode::kInternal,
                std::format("cannot show a new certificate: {}", take_openssl_error("it is of another key")));
  }
  identity_ = identity;
  return {};
}

Result<SslPtr> TlsContext::new_session(TlsSide side, PeerCheck* check) const {
  ERR_clear_error();
  SslPtr ssl(SSL_new(context_.get()));
  if (!ssl || SSL_set_ex_data(ssl.get(), check_index(), check) != 1) {
    return fail(ErrorCode::kInternal, take_openssl_error("cannot make a TLS session"));
  }
  if (side == TlsSide::kDialer) {
    const std::string name = wire_name(check->protocols.front());
    if (SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(name.data()),
                            static_cast<unsigned>(name.size())) != 0) {
      return fail(ErrorCode::kInternal, take_openssl_error("cannot make a TLS session"));
    }
    check->protocol = check->protocols.front();
    SSL_set_connect_state(ssl.get());
  } else {
    SSL_set_accept_state(ssl.get());
  }
  return ssl;
}

}  // namespace baton::net
