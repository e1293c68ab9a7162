#include "trust/token.h"

#include <algorithm>
#include <format>
#include <optional>

#include "trust/wire.h"

namespace baton::trust {

namespace {

constexpr std::string_view kPrefix = "baton-join-";
constexpr std::uint8_t kTokenFormat = 1;
constexpr std::size_t kChecksumBytes = 4;
constexpr std::size_t kMaxTokenText = 4096;
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string to_base64url(ByteSpan bytes) {
  std::string text;
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (const std::byte byte : bytes) {
    held = held << 8 | std::to_integer<std::uint32_t>(byte);
    for (bits += 8; bits >= 6; bits -= 6) text += kAlphabet[held >> (bits - 6) & 63];
  }
  if (bits > 0) text += kAlphabet[held << (6 - bits) & 63];
  return text;
}

// Nothing where a letter is foreign, or the last one holds more than the bytes do.
std::optional<Bytes> from_base64url(std::string_view text) {
  Bytes bytes;
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (const char letter : text) {
    const std::size_t value = kAlphabet.find(letter);
    if (value == std::string_view::npos) return std::nullopt;
    held = held << 6 | static_cast<std::uint32_t>(value);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<std::byte>(held >> bits));
  }
  if (bits >= 6 || (held & ((1U << bits) - 1)) != 0) return std::nullopt;
  return bytes;
}

std::unexpected<Error> wrong(std::string_view what) {
  return fail(ErrorCode::kInvalidArgument,
              std::format("the token {}: copy all of what 'baton token' printed, from '{}' on", what, kPrefix));
}

Result<JoinToken> decode(ByteSpan bytes) {
  ByteReader in(bytes);
  if (TRY(in.read<std::uint8_t>()) != kTokenFormat) {
    return fail(ErrorCode::kUnsupported, "the token is of a newer baton: update this machine's");
  }
  JoinToken token;
  token.cluster.bytes = TRY(read_array<32>(in));
  token.issuer.digest.bytes = TRY(read_array<32>(in));
  token.secret = TRY(read_array<16>(in));
  token.expires_s = TRY(in.read<std::int64_t>());
  const auto count = TRY(in.read<std::uint8_t>());
  if (count > kMaxTokenAddresses) return wrong("names too many addresses");
  for (std::uint8_t i = 0; i < count; ++i) {
    token.addresses.push_back(TRY(net::Endpoint::parse(TRY(in.read_string<std::uint8_t>()))));
  }
  if (in.remaining() != 0) return wrong("is too long");
  return token;
}

}  // namespace

std::string JoinToken::to_string() const {
  ByteWriter out;
  out.write(kTokenFormat);
  out.write_bytes(cluster.bytes);
  out.write_bytes(issuer.digest.bytes);
  out.write_bytes(secret);
  out.write(expires_s);
  out.write(static_cast<std::uint8_t>(addresses.size()));
  for (const net::Endpoint& address : addresses) out.write_string<std::uint8_t>(address.to_string());
  out.write_bytes(ByteSpan(sha256(out.bytes()).bytes).first(kChecksumBytes));
  return std::string(kPrefix) + to_base64url(out.bytes());
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  if (!text.starts_with(kPrefix) || text.size() > kMaxTokenText) return wrong("is none");
  const auto bytes = from_base64url(text.substr(kPrefix.size()));
  if (!bytes || bytes->size() <= kChecksumBytes) return wrong("is damaged");
  const ByteSpan content = ByteSpan(*bytes).first(bytes->size() - kChecksumBytes);
  if (!std::ranges::equal(ByteSpan(sha256(content).bytes).first(kChecksumBytes),
                          ByteSpan(*bytes).subspan(content.size()))) {
    return wrong("is damaged");
  }
  auto token = decode(content);
  if (!token && token.error().code == ErrorCode::kCorrupt) return wrong("is cut short");
  return token;
}

SigningKey JoinToken::key() const {
  ByteWriter out;
  out.write_bytes(as_byte_span("baton join key 1"));
  out.write_bytes(cluster.bytes);
  out.write_bytes(secret);
  return SigningKey::from_seed(sha256(out.bytes()).bytes);
}

}  // namespace baton::trust
