#include "base/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <format>

// On x86 the library chooses the processor's widest instructions at run time; elsewhere the compiler knows them.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#define XXH_STATIC_LINKING_ONLY  // for the size of its state
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

namespace baton {

namespace {

// Without SHA-256 nothing can be named: two models would have the same digest.
void must(int done) {
  if (done != 1) std::abort();
}

}  // namespace

std::string to_hex(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

Result<Bytes> from_hex(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) break;
    bytes.push_back(static_cast<std::byte>(high << 4 | low));
  }
  if (text.size() % 2 != 0 || bytes.size() != text.size() / 2) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not hexadecimal", text));
  }
  return bytes;
}

std::string Sha256::hex() const { return to_hex(bytes); }

Result<Sha256> Sha256::parse(std::string_view hex) {
  const Bytes parsed = TRY(from_hex(hex));
  Sha256 digest;
  if (parsed.size() != digest.bytes.size()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' is not a SHA-256 digest: it needs 64 hexadecimal digits", hex));
  }
  std::ranges::copy(parsed, digest.bytes.begin());
  return digest;
}

Sha256 sha256(ByteSpan bytes) {
  Sha256 digest;
  unsigned size = 0;
  must(EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.bytes.data()), &size,
                  EVP_sha256(), nullptr));
  return digest;
}

struct Sha256Stream::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Sha256Stream::Sha256Stream() : state_(new State) {
  must(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr));
}
Sha256Stream::Sha256Stream(Sha256Stream&&) noexcept = default;
Sha256Stream& Sha256Stream::operator=(Sha256Stream&&) noexcept = default;
Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::update(ByteSpan bytes) { must(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size())); }

Sha256 Sha256Stream::value() {
  Sha256 digest;
  must(EVP_DigestFinal_ex(state_->context.get(), reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr));
  return digest;
}

struct Checksum::State {
  XXH3_state_t state;
};

Checksum::Checksum() : state_(new State) {
  XXH3_INITSTATE(&state_->state);
  XXH3_64bits_reset(&state_->state);
}
Checksum::Checksum(const Checksum& other) : state_(new State(*other.state_)) {}
Checksum& Checksum::operator=(const Checksum& other) {
  *state_ = *other.state_;
  return *this;
}
Checksum::Checksum(Checksum&&) noexcept = default;
Checksum& Checksum::operator=(Checksum&&) noexcept = default;
Checksum::~Checksum() = default;

void Checksum::update(ByteSpan bytes) { XXH3_64bits_update(&state_->state, bytes.data(), bytes.size()); }
std::uint64_t Checksum::value() const { return XXH3_64bits_digest(&state_->state); }

std::uint64_t checksum(ByteSpan bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace baton
