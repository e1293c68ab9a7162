#include "net/certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <format>

#include "net/tls.h"

namespace baton::net {

namespace {

using NamePtr = std::unique_ptr<X509_NAME, OpensslFree<X509_NAME_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, OpensslFree<X509_EXTENSION_free>>;
using AlternativeNames = std::unique_ptr<GENERAL_NAMES, OpensslFree<GENERAL_NAMES_free>>;

constexpr std::string_view kUriLetters = "abcdefghijklmnopqrstuvwxyz0123456789:/.-";

std::unexpected<Error> no_certificate(std::string_view what) {
  ERR_clear_error();
  return fail(ErrorCode::kCorrupt, std::format("a certificate {}", what));
}

NamePtr make_name(const std::string& text) {
  NamePtr name(X509_NAME_new());
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.c_str());
  if (name && X509_NAME_add_entry_by_NID(name.get(), NID_commonName, MBSTRING_ASC, bytes, -1, -1, 0) != 1) name.reset();
  return name;
}

bool add_extension(X509* certificate, int nid, const std::string& value) {
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

CertificatePtr decode(ByteSpan der) {
  if (der.empty() || der.size() > kMaxCertificateBytes) return nullptr;
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  CertificatePtr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (certificate && at != reinterpret_cast<const unsigned char*>(der.data()) + der.size()) certificate.reset();
  ERR_clear_error();
  return certificate;
}

std::optional<std::int64_t> seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return timegm(&parts);
}

std::string common_name(const X509_NAME* name) {
  char text[80] = {};
  const int size = X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
}

// Nothing where there is more than one name, or one of another kind.
std::optional<std::string> uri_of(X509* certificate) {
  const AlternativeNames names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names) return "";
  if (sk_GENERAL_NAME_num(names.get()) != 1) return std::nullopt;
  const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), 0);
  if (name->type != GEN_URI) return std::nullopt;
  const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                     static_cast<std::size_t>(ASN1_STRING_length(uri)));
}

}  // namespace

Result<Bytes> issue_certificate(const SigningKey& issuer, const PublicKey& subject, const CertificateClaims& claims) {
  if (claims.uri.find_first_not_of(kUriLetters) != std::string::npos || claims.begin_s < 0 ||
      claims.end_s < claims.begin_s) {
    return fail(ErrorCode::kInvalidArgument, "such a certificate cannot be made");
  }
  ERR_clear_error();
  const KeyPtr issuer_key = private_key_of(issuer);
  const KeyPtr subject_key = public_key_of(subject);
  const CertificatePtr certificate(X509_new());
  const NamePtr subject_name = make_name(claims.subject.to_string());
  const NamePtr issuer_name = make_name(claims.issuer.to_string());
  X509* x509 = certificate.get();
  std::uint64_t serial = 0;
  const bool made =
      RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1 && x509 != nullptr && issuer_key &&
      subject_key && subject_name && issuer_name && X509_set_version(x509, X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set_uint64(X509_get_serialNumber(x509), serial >> 1 | 1) == 1 &&
      X509_set_subject_name(x509, subject_name.get()) == 1 && X509_set_issuer_name(x509, issuer_name.get()) == 1 &&
      ASN1_TIME_set(X509_getm_notBefore(x509), claims.begin_s) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(x509), claims.end_s) != nullptr &&
      X509_set_pubkey(x509, subject_key.get()) == 1 &&
      (claims.uri.empty() || add_extension(x509, NID_subject_alt_name, "URI:" + claims.uri)) &&
      X509_sign(x509, issuer_key.get(), nullptr) > 0;
  unsigned char* encoded = nullptr;
  const int size = made ? i2d_X509(x509, &encoded) : -1;
  if (size <= 0) {
    return fail(ErrorCode::kInternal, std::format("cannot make a certificate: {}", take_openssl_error("no reason")));
  }
  const auto bytes = std::as_bytes(std::span(encoded, static_cast<std::size_t>(size)));
  Bytes der(bytes.begin(), bytes.end());
  OPENSSL_free(encoded);
  return der;
}

Result<CertificateClaims> read_certificate(ByteSpan der) {
  const CertificatePtr certificate = decode(der);
  if (!certificate) return no_certificate("is malformed");
  EVP_PKEY* key = X509_get0_pubkey(certificate.get());
  if (key == nullptr || EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519) return no_certificate("has no Ed25519 key");
  const auto begin = seconds_of(X509_get0_notBefore(certificate.get()));
  const auto end = seconds_of(X509_get0_notAfter(certificate.get()));
  const auto uri = uri_of(certificate.get());
  if (!begin || !end || !uri) return no_certificate("has times or names that make no sense");
  const auto issuer = Fingerprint::parse(common_name(X509_get_issuer_name(certificate.get())));
  return CertificateClaims {
    .subject = TRY(fingerprint_of(key))
    , .issuer = issuer.value_or(Fingerprint{}), .uri = *uri, .begin_s = *begin, .end_s = *end
  };
}

bool is_signed_by(ByteSpan der, const PublicKey& issuer) {
  const CertificatePtr certificate = decode(der);
  const KeyPtr key = public_key_of(issuer);
  const bool good = certificate && key && X509_verify(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace baton::net
