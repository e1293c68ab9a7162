// Products with a matrix by the processor's own matrix kernels. The one door to oneDNN: dnnl.cpp opens it, no_dnnl.cpp
// is for builds without the library. Private to the engine room.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace baton::engine {

// How a product is computed; sums are always F32.
enum class Arithmetic : std::uint8_t {
  kF32,   // F32 activations, weights of any float type widened to F32
  kBf16,  // both rounded to BF16
  kInt8,  // BF16 activations, weights of 8 bits times a scale for each 32 of a row, rounded to BF16
};

// What the weights are kept as. kBf16 arithmetic takes kBf16, kInt8 takes kInt8, kF32 the float types.
enum class Storage : std::uint8_t { kF32, kF16, kBf16, kInt8 };

enum class Layout : std::uint8_t {
  kPlain,   // row after row, as in a model file: used where it lies
  kPacked,  // a copy in the kernels' own order, a little faster
};

// Consecutive values of a row that share a scale in Storage::kInt8.
inline constexpr std::int64_t kScaleGroup = 32;

// As in a model file: `rows` rows of `columns` weights; a product turns `columns` activations into `rows` results.
struct MatrixForm {
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  Arithmetic arithmetic = Arithmetic::kF32;
  Storage storage = Storage::kF32;
  Layout layout = Layout::kPlain;
  auto operator<=>(const MatrixForm&) const = default;
};

// Immutable.
class KernelMatrix {
 public:
  virtual ~KernelMatrix() = default;

  virtual std::int64_t rows() const = 0;  // results for each row of activations
  // results[r][n] = sum over k of activations[r][k] * weights[n][k], for `count` rows r that lie one after the other.
  // Several threads may call it at once, each for rows of its own; each computes with the thread it has. The first
  // call with a new `count` generates code, which takes some milliseconds. kNoCapacity, kInternal.
  virtual Result<void> multiply(const float* activations, float* results, std::int64_t count) const = 0;
};

// Whether this build has fast kernels for such matrices on this processor. They were found to compute rightly: the
// first question about a kind of matrix makes a trial. kBf16 and kInt8 need a processor that multiplies BF16 itself,
// kInt8 also `columns` that are a multiple of kScaleGroup.
bool has_kernels(const MatrixForm& form);

// Bytes that a packed copy takes; 0 for a plain matrix, or where there are no kernels.
std::uint64_t packed_bytes(const MatrixForm& form);

// `weights` is [rows][columns] of the form's storage, `scales` (kInt8 alone) F32 [columns / kScaleGroup][rows]. A plain
// matrix borrows both for its life, a packed one only during the call. kUnsupported where there are no kernels;
// kNoCapacity.
Result<std::unique_ptr<const KernelMatrix>> make_kernel_matrix(const MatrixForm& form, const void* weights,
                                                               const float* scales = nullptr);

}  // namespace baton::engine
