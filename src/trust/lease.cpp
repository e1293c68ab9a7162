#include "trust/lease.h"

#include "trust/statement.h"
#include "trust/wire.h"

namespace baton::trust {

namespace {

constexpr std::string_view kLeasePurpose = "baton lease 1";
constexpr std::uint8_t kLeaseFormat = 1;

Result<net::Fingerprint> check(ByteSpan lease, ByteSpan subject) {
  ByteReader in(lease);
  PublicKey key;
  Signature signature;
  const auto format = TRY(in.read<std::uint8_t>());
  key.bytes = TRY(read_array<32>(in));
  signature.bytes = TRY(read_array<64>(in));
  if (format != kLeaseFormat || in.remaining() != 0) return fail(ErrorCode::kRefused, "the lease has another format");
  if (!verify(key, kLeasePurpose, subject, signature)) {
    return fail(ErrorCode::kRefused, "the lease is for other work, or forged");
  }
  return node_id(key);
}

}  // namespace

Bytes sign_lease(const SigningKey& coordinator, ByteSpan subject) {
  ByteWriter out;
  out.write(kLeaseFormat);
  out.write_bytes(coordinator.public_key().bytes);
  out.write_bytes(coordinator.sign(kLeasePurpose, subject).bytes);
  return std::move(out).take();
}

Result<net::Fingerprint> verify_lease(ByteSpan lease, ByteSpan subject) {
  auto signer = check(lease, subject);
  if (!signer && signer.error().code == ErrorCode::kCorrupt) return fail(ErrorCode::kRefused, "the lease is cut short");
  return signer;
}

}  // namespace baton::trust
