// Products with a model file's matrices in whole numbers, straight from the file's bytes: a panel of 32 rows at a time
// is brought into the kernels' order in the second-level cache, used for all rows of activations, and forgotten. No
// copy of the weights is kept, and nothing has to be prepared. Private to the engine room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "engine/block_codes.h"
#include "model/tensor_type.h"

namespace baton::engine {

struct BlockForm {
  model::TensorType type = model::TensorType::kF32;
  Coding coding = Coding::kClose;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  std::int64_t matrices = 1;  // one after the other: the experts of a layer
};

// Rows of activations that are multiplied by one matrix.
struct RowGroup {
  std::int64_t matrix = 0;
  std::int64_t first_tile = 0;
  std::vector<std::int32_t> rows;  // which ones, in the order of the tiles
};

// Every row, by the first matrix.
std::vector<RowGroup> one_group(std::int64_t count);
// Row r by matrix `chosen(r)`, in [0, matrices). Matrices that no row chose are left out.
std::vector<RowGroup> groups_by_matrix(std::span<const std::int32_t> chosen, std::int64_t matrices);

// Activations rounded to whole numbers, in tiles. Any matrix of the same width and columns can multiply by them.
// Tiles that `rows` rows need at most when they are spread over `groups` groups.
std::int64_t most_tiles(std::int64_t rows, std::int64_t groups);
std::int64_t tile_bytes(CodeWidth width, std::int64_t columns);
// Share `thread` of `threads`. Row r of the groups is row r / rows_per_input of `inputs`, [row][columns].
void make_tiles(CodeWidth width, std::int64_t columns, std::span<const RowGroup> groups, const float* inputs,
                std::int64_t rows_per_input, std::byte* tiles, int thread, int threads);

// Immutable. It borrows the bytes.
class BlockMatrix {
 public:
  // nullptr where this processor or type has no such products, or `columns` is no multiple of 32.
  static std::unique_ptr<const BlockMatrix> find(const BlockForm& form, ByteSpan bytes);

  const BlockForm& form() const { return form_; }
  CodeWidth width() const { return codes_.width; }

  // results[r][n] = sum over k of activations[r][k] * weights[n][k] for the rows r of the groups, whose tiles
  // make_tiles() made. Share `thread` of `threads`: the shares may run at once, and who does what changes no bit of the
  // results. kNoCapacity.
  Result<void> multiply(std::span<const RowGroup> groups, const std::byte* tiles, float* results, int thread,
                        int threads) const;

 private:
  BlockMatrix(const BlockForm& form, CodeForm codes, ByteSpan bytes);
  const std::byte* make_panel(std::int64_t matrix, std::int64_t panel) const;
  void multiply_panel(const RowGroup& group, std::int64_t panel, std::int64_t first_tile, std::int64_t end_tile,
                      const std::byte* tiles, float* results) const;

  const BlockForm form_;
  const CodeForm codes_;
  const BlockKernels& kernels_;
  const std::byte* bytes_;
  const std::int64_t row_bytes_;
};

}  // namespace baton::engine
