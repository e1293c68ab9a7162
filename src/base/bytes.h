// Little-endian bytes of unknown origin, read and written with every bound checked.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace baton {

static_assert(std::endian::native == std::endian::little,
              "baton's formats are little-endian, and so must the machine be");

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

inline ByteSpan as_byte_span(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// Reads from the front of a span it borrows. A read past the end fails with kCorrupt and moves nothing.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  std::size_t position() const { return position_; }
  std::size_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
    requires(std::is_arithmetic_v<T> || std::is_enum_v<T>)
  Result<T> read() {
    if (remaining() < sizeof(T)) return short_read(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // Borrows the next `size` bytes.
  Result<ByteSpan> read_bytes(std::uint64_t size) {
    if (remaining() < size) return short_read(size);
    ByteSpan span = bytes_.subspan(position_, size);
    position_ += size;
    return span;
  }

  // A string with a length of type Length before it.
  template <typename Length>
  Result<std::string_view> read_string() {
    const std::size_t start = position_;
    const auto length = TRY(read<Length>());
    auto bytes = read_bytes(length);
    if (!bytes) {
      position_ = start;
      return std::unexpected(bytes.error());
    }
    return std::string_view(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }

 private:
  std::unexpected<Error> short_read(std::uint64_t wanted) const;

  ByteSpan bytes_;
  std::size_t position_ = 0;
};

class ByteWriter {
 public:
  template <typename T>
    requires(std::is_arithmetic_v<T> || std::is_enum_v<T>)
  void write(T value) {
    const auto* source = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), source, source + sizeof(T));
  }
  void write_bytes(ByteSpan bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  template <typename Length>
  void write_string(std::string_view text) {
    write(static_cast<Length>(text.size()));
    write_bytes(as_byte_span(text));
  }

  std::size_t size() const { return bytes_.size(); }
  ByteSpan bytes() const { return bytes_; }
  Bytes take() && { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

}  // namespace baton
