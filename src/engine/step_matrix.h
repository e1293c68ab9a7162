// Products of a few rows with a matrix, at the speed at which its weights can be read. Private to the engine room;
// step_matrix_x86.cpp is for processors with AVX-512 and its byte products, no_step_matrix.cpp for builds without.
//
// A row of results depends on its own row of activations alone: how many rows are computed beside it, and by how many
// threads, changes no bit. So a token checked as one of several, or decoded beside other sequences, gets what it would
// have got by itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "model/tensor_type.h"

namespace baton::engine {

// Float types are multiplied in F32. Q8_0 and Q4_0 by bytes: activations are rounded to 8 bits with an F32 scale for
// each 32, products are summed exactly within those 32 and in F32 across them. (ggml does the same, with the
// activations' scales rounded to F16, and rounds activations to F16 and BF16 for weights of those types.)
//
// Immutable.
class StepMatrix {
 public:
  virtual ~StepMatrix() = default;

  virtual std::int64_t rows() const = 0;  // results for each row of activations

  // results[r][n] = sum over k of activations[r][k] * weights[n][k] for `count` rows r. The `threads` that call it
  // share the n: each takes the next part, of `taken` in all, until none is left, so that the one that a busy machine
  // slows down takes fewer. `taken` is 0 before the first of them, and `results` are whole when all have returned.
  // Allocates only where a thread's first call is larger than those before.
  virtual void multiply(const float* activations, std::int64_t count, float* results, std::atomic<std::int64_t>& taken,
                        int threads) const = 0;
};

// Bytes of the copy that the kernels need in an order of their own: 0 where they read the file's. Nothing where there
// is no kernel for such a matrix.
std::optional<std::uint64_t> step_copy_bytes(model::TensorType type, std::int64_t columns, std::int64_t rows);

// `weights` as they are in the file. They are borrowed for the matrix's life where step_copy_bytes() is 0, else only
// during the call. There must be a kernel. Throws std::bad_alloc.
std::unique_ptr<const StepMatrix> make_step_matrix(model::TensorType type, std::int64_t columns, std::int64_t rows,
                                                   ByteSpan weights);

}  // namespace baton::engine
