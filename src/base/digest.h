// Digests: SHA-256 names things, XXH3 notices damage.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace baton {

struct Sha256 {
  std::array<std::byte, 32> bytes{};

  std::string hex() const;
  static Result<Sha256> parse(std::string_view hex);
  auto operator<=>(const Sha256&) const = default;
};

Sha256 sha256(ByteSpan bytes);

// The same over bytes that come piece by piece. After value() it is spent.
class Sha256Stream {
 public:
  Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;
  ~Sha256Stream();
  void update(ByteSpan bytes);
  Sha256 value();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A 64-bit checksum against accidental damage; no protection against an attacker, which is TLS's work.
class Checksum {
 public:
  Checksum();
  Checksum(const Checksum& other);
  Checksum& operator=(const Checksum& other);
  Checksum(Checksum&&) noexcept;
  Checksum& operator=(Checksum&&) noexcept;
  ~Checksum();
  void update(ByteSpan bytes);
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::uint64_t checksum(ByteSpan bytes);

std::string to_hex(ByteSpan bytes);
Result<Bytes> from_hex(std::string_view text);

}  // namespace baton
