// The element types of GGUF tensors, with the numbers and block layouts of the GGUF specification
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). They equal ggml's, so the engine may cast one to the
// other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace baton::model {

enum class TensorType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
};

// What a weight matrix of this type can be used for.
enum class TensorUse : std::uint8_t {
  kWeight,   // a matrix ggml multiplies by and synth can write
  kStorage,  // only stored or copied: integers, F64 and the formats ggml keeps activations in
};

struct TensorTypeFacts {
  TensorType type;
  std::string_view name;      // as in ggml, lower case: "q4_K"
  std::uint32_t block_size;   // elements in a block; a row holds whole blocks
  std::uint32_t block_bytes;  // bytes of a block
  TensorUse use;
};

std::span<const TensorTypeFacts> all_tensor_types();

// Facts of a type found in a file; nullopt for a number that is unknown or was withdrawn.
std::optional<TensorTypeFacts> find_tensor_type(std::uint32_t number);
// By name, upper and lower case alike ("Q4_0", "q4_k").
std::optional<TensorTypeFacts> find_tensor_type(std::string_view name);

// Facts of a type that is known to exist, such as one in a TensorInfo.
const TensorTypeFacts& facts(TensorType type);

// Bytes of a row of `elements`, which must be a multiple of the block size.
std::uint64_t row_bytes(TensorType type, std::uint64_t elements);

}  // namespace baton::model
