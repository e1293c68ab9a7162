// Number formats on the wire, and conversion between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace baton::handoff {

// The value is the byte on the wire.
enum class DType : std::uint8_t {
  kNone = 0,  // a slice's part that is not there
  kF32 = 1,
  kF16 = 2,
  kBf16 = 3,
  kQ8_0 = 4,  // 32 values in 34 bytes: f16 scale, 32 x int8
  kQ4_0 = 5,  // 32 values in 18 bytes: f16 scale, 16 bytes; the low nibbles are values 0..15, the high ones 16..31
};

// "f16", "q8_0", ...; find_dtype is its inverse, kInvalidArgument for a name it does not know.
std::string_view dtype_name(DType dtype);
Result<DType> find_dtype(std::string_view name);

// Values that are encoded together: 32 for q8_0 and q4_0, else 1. A row of a slice must be a multiple of it.
std::size_t block_values(DType dtype);

// Bytes of `values` values; `values` must be a multiple of block_values(dtype). kNone takes none.
std::size_t encoded_size(DType dtype, std::size_t values);

// Converts all values of `source` into `target`, whose sizes must agree; they must not overlap. The bits are those of
// ggml's reference functions for the same formats: quantising takes the scale as f32 and stores it as f16, rounds
// halves away from zero (q8_0) or by truncation after an offset of 8.5 (q4_0), and an all-zero block has scale 0. f32
// to f16 and bf16 rounds to nearest even, a NaN stays a NaN. Equal formats are copied bit by bit. Safe from any thread.
// kInvalidArgument where sizes do not fit.
Result<void> convert(DType from, ByteSpan source, DType to, std::span<std::byte> target);

}  // namespace baton::handoff
