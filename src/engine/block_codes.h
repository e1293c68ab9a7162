// Weights of a model file as whole numbers with scales. Private to the engine room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "engine/block_kernels.h"
#include "model/tensor_type.h"

namespace baton::engine {

struct CodeForm {
  CodeWidth width = CodeWidth::k8;
  CodeOffsets offsets = CodeOffsets::kNone;
  bool operator==(const CodeForm&) const = default;
};

// How closely weights and activations are rounded.
enum class Coding : std::uint8_t {
  // At least as closely as ggml does for the type: the whole numbers that quantised weights are made of, as they are,
  // with activations of 8 bits; F16 and BF16 weights and activations rounded to 16 bits.
  kClose,
  kCoarse,  // 8 bits for F16, BF16 and F32 weights too, with a scale for each 128 where columns allow it
};

// Nothing where a type is not made of such numbers, or is to be rounded no more than F32 is.
std::optional<CodeForm> code_form(model::TensorType type, std::int64_t columns, Coding coding);

// Codes `columns` of a row, a multiple of 256 or else of the type's block and of 32; `source` is where they begin.
// scales and offsets get one for each 32. F16, BF16 and F32 go through `kernels`.
void encode_weights(model::TensorType type, CodeWidth width, const BlockKernels& kernels, const std::byte* source,
                    std::int64_t columns, std::byte* codes, float* scales, float* offsets);

}  // namespace baton::engine
