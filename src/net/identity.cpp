#include "net/identity.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <format>

#include "base/file.h"
#include "base/log.h"
#include "net/tls.h"

namespace baton::net {

namespace {

constexpr std::string_view kFileName = "identity.pem";

using BioPtr = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using NamePtr = std::unique_ptr<X509_NAME, OpensslFree<X509_NAME_free>>;

std::unexpected<Error> openssl_failure(std::string_view action) {
  return fail(ErrorCode::kInternal, std::format("cannot {}: {}", action, take_openssl_error("OpenSSL gave no reason")));
}

std::unexpected<Error> system_failure(std::string_view action, const std::filesystem::path& path) {
  return fail(ErrorCode::kIo, std::format("cannot {}: {}", action, std::strerror(errno)), path.string());
}

// A certificate that no clock can find too young or too old: peers know the key, not the dates.
Result<CertificatePtr> make_certificate(EVP_PKEY* key) {
  std::uint64_t serial = 0;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) != 1)
    return openssl_failure("make a serial");
  CertificatePtr certificate(X509_new());
  NamePtr name(X509_NAME_new());
  const auto* common_name = reinterpret_cast<const unsigned char*>("baton");
  const bool made = certificate && name && X509_set_version(certificate.get(), X509_VERSION_3) == 1 &&
                    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1 | 1) == 1 &&
                    X509_NAME_add_entry_by_NID(name.get(), NID_commonName, MBSTRING_ASC, common_name, -1, -1, 0) == 1 &&
                    X509_set_subject_name(certificate.get(), name.get()) == 1 &&
                    X509_set_issuer_name(certificate.get(), name.get()) == 1 &&
                    ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate.get()), "20000101000000Z") == 1 &&
                    ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate.get()), "99991231235959Z") == 1 &&
                    X509_set_pubkey(certificate.get(), key) == 1 && X509_sign(certificate.get(), key, nullptr) > 0;
  if (!made) return openssl_failure("make a certificate");
  return certificate;
}

// Key and certificate in one file, so that there is never one without the other.
Result<std::string> make_identity_text() {
  ERR_clear_error();
  const KeyPtr key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!key) return openssl_failure("make an Ed25519 key");
  const CertificatePtr certificate = TRY(make_certificate(key.get()));
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (!memory || PEM_write_bio_PrivateKey(memory.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1 ||
      PEM_write_bio_X509(memory.get(), certificate.get()) != 1) {
    return openssl_failure("encode the key");
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

// Refuses a password rather than asking for one on the terminal.
int no_password(char*, int, int, void*) { return -1; }

Result<std::shared_ptr<const Identity::Keys>> parse_identity(std::string_view text, const std::filesystem::path& path) {
  const auto damaged = [&](std::string_view what) {
    ERR_clear_error();
    return fail(
        ErrorCode::kCorrupt,
        std::format("{}; restore it from a copy, or delete it to get a new key, which peers must then trust anew",
                    what),
        path.string());
  };
  ERR_clear_error();
  const BioPtr memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  KeyPtr key(memory ? PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr) : nullptr);
  if (!key) return damaged("the private key is damaged or missing");
  if (EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_ED25519) return damaged("the private key is not an Ed25519 key");
  CertificatePtr certificate(PEM_read_bio_X509(memory.get(), nullptr, no_password, nullptr));
  if (!certificate) return damaged("the certificate is damaged or missing");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return damaged("the certificate belongs to another key");
  }
  SigningKey::Seed seed;
  std::size_t seed_size = seed.size();
  if (EVP_PKEY_get_raw_private_key(key.get(), reinterpret_cast<unsigned char*>(seed.data()), &seed_size) != 1) {
    return damaged("the private key cannot be read");
  }
  const Fingerprint fingerprint = TRY(fingerprint_of(key.get()));
  return std::make_shared<const Identity::Keys>(std::move(key), std::move(certificate), fingerprint,
                                                SigningKey::from_seed(seed));
}

Result<void> make_private_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  if (folder.has_parent_path()) {
    std::filesystem::create_directories(folder.parent_path(), error);
    if (error) return fail(ErrorCode::kIo, std::format("cannot make the folder: {}", error.message()), folder.string());
  }
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return system_failure("make the folder", folder);
  return {};
}

// Puts the text in place only if nobody else has meanwhile.
Result<void> write_if_absent(const std::filesystem::path& path, std::string_view text) {
  std::uint64_t unique = 0;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&unique), sizeof unique) != 1) return openssl_failure("make a name");
  const std::filesystem::path draft = path.string() + std::format(".{:016x}", unique);
  TRY(write_file(draft, as_byte_span(text), 0600));
  int outcome = ::link(draft.c_str(), path.c_str());
  // Some file systems have no hard links; there the last writer wins, and the caller reads what that was.
  if (outcome != 0 && errno != EEXIST) outcome = ::rename(draft.c_str(), path.c_str());
  const int reason = errno;
  ::unlink(draft.c_str());
  errno = reason;
  if (outcome != 0 && errno != EEXIST) return system_failure("write the key", path);
  return {};
}

void keep_private(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || (status.st_mode & 077) == 0) return;
  const bool repaired = ::chmod(path.c_str(), 0600) == 0;
  log::warning("{}: others on this machine could read this key (mode {:o}){}", path.string(), status.st_mode & 0777,
               repaired ? "; it is now for its owner only" : "");
}

}  // namespace

Result<Identity> Identity::load_or_create(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kFileName;
  auto text = read_text_file(path);
  if (!text && text.error().code == ErrorCode::kNotFound) {
    TRY(make_private_folder(folder));
    const std::string fresh = TRY(make_identity_text());
    TRY(write_if_absent(path, fresh));
    text = read_text_file(path);
  }
  if (!text) return std::unexpected(std::move(text).error());
  keep_private(path);
  return Identity(TRY(parse_identity(*text, path)));
}

Result<Identity> Identity::from_key(const SigningKey& signing_key) {
  ERR_clear_error();
  KeyPtr key = private_key_of(signing_key);
  if (!key) return openssl_failure("use a key");
  CertificatePtr certificate = TRY(make_certificate(key.get()));
  const Fingerprint fingerprint = TRY(fingerprint_of(key.get()));
  return Identity(std::make_shared<const Keys>(std::move(key), std::move(certificate), fingerprint, signing_key));
}

const Fingerprint& Identity::fingerprint() const { return keys_->fingerprint; }

const SigningKey& Identity::signing_key() const { return keys_->signing_key; }

Result<Identity> Identity::with_certificate(ByteSpan der) const {
  ERR_clear_error();
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  CertificatePtr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  KeyPtr key = private_key_of(keys_->signing_key);
  if (!certificate || !key || X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return fail(ErrorCode::kInvalidArgument, "the certificate is not one of this machine's key");
  }
  return Identity(
      std::make_shared<const Keys>(std::move(key), std::move(certificate), keys_->fingerprint, keys_->signing_key));
}

}  // namespace baton::net
