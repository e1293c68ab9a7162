// How a file's matrix is to be multiplied by, and its weights in that form. Private to the engine room.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "engine/block_codes.h"
#include "engine/kernel_matrix.h"
#include "engine/prefill_pack.h"
#include "model/tensor_type.h"

namespace baton::engine {

// One matrix, or as many as a layer has experts.
enum class MatrixUse : std::uint8_t { kDense, kExperts };

// How to multiply by matrices of that type in whole numbers, straight from the file; nothing where choose_form() is to
// say, or ggml is to multiply. Like choose_form() it depends on its arguments and the processor alone, so that nodes of
// one kind choose alike.
std::optional<Coding> choose_coding(model::TensorType type, std::int64_t columns, std::int64_t rows, MatrixUse use,
                                    PrefillPack pack);

// The form for a matrix of that type; nothing where ggml is to multiply: kOff, or no kernels for it here.
std::optional<MatrixForm> choose_form(model::TensorType type, std::int64_t columns, std::int64_t rows,
                                      PrefillPack pack);

// Whether the file's own bytes serve for that form.
bool is_in_place(model::TensorType type, const MatrixForm& form);

// Weights as make_kernel_matrix() takes them: the file's own bytes where they are so already, else converted. kInt8
// gives back Q8_0 as it is; other types are rounded to the nearest of 255 steps between the extremes of each 32.
// Movable: what it points to stays where it is.
class PlainWeights {
 public:
  // Borrows `bytes`, the matrix as it is in the file.
  PlainWeights(model::TensorType type, ByteSpan bytes, const MatrixForm& form);

  const void* weights() const { return weights_; }
  const float* scales() const { return scales_.empty() ? nullptr : scales_.data(); }

 private:
  void convert(model::TensorType type, ByteSpan bytes, const MatrixForm& form);

  const void* weights_;
  std::vector<std::byte> converted_;
  std::vector<float> scales_;
};

}  // namespace baton::engine
