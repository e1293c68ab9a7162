// Random matrices of any type as fast as memory can be filled.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "model/tensor_type.h"

namespace baton::model {

// A number that looks random and depends only on its arguments (SplitMix64's finaliser, Steele et al., 2014).
std::uint64_t mixed(std::uint64_t seed, std::uint64_t index);

// A few thousand pieces of a row, drawn at random and quantised once. A matrix is put together from them in random
// order: each of its rows is random, multiplying by it costs what it always costs, and even a type that takes minutes
// to quantise a model to (IQ2_XXS) is written at the speed of a copy. Immutable after create().
class BlockPool {
 public:
  struct Shape {
    TensorType type;
    std::uint32_t unit;   // elements of a piece: whole blocks
    std::uint32_t count;  // pieces
    float rms;            // root mean square of each piece's elements before quantisation
  };

  static Result<BlockPool> create(const Shape& shape, std::uint64_t seed, unsigned threads);

  std::uint32_t unit() const { return shape_.unit; }
  std::uint64_t unit_bytes() const { return unit_bytes_; }
  // The piece that a number chooses, which may be of any size.
  ByteSpan piece(std::uint64_t number) const {
    return ByteSpan(bytes_).subspan(number % shape_.count * unit_bytes_, unit_bytes_);
  }
  // A piece of zeros.
  ByteSpan zero() const { return zero_; }

 private:
  BlockPool(const Shape& shape, std::uint64_t unit_bytes)
      : shape_(shape), unit_bytes_(unit_bytes), bytes_(unit_bytes * shape.count), zero_(unit_bytes) {}

  Shape shape_;
  std::uint64_t unit_bytes_;
  Bytes bytes_;
  Bytes zero_;
};

}  // namespace baton::model
