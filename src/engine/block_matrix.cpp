#include "engine/block_matrix.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <numeric>

#include "engine/aligned_bytes.h"

namespace baton::engine {

namespace {

// Columns that are coded at a time, a multiple of every type's block: they and their panel stay in the first-level
// cache.
constexpr std::int64_t kColumnsAtOnce = 512;
// What it costs to make a panel, in products of a tile with it. Only the balance between threads depends on it.
constexpr std::int64_t kPanelCost = 8;
// Fewer pieces of work than this for each thread would leave some waiting for others.
constexpr std::int64_t kPiecesPerThread = 4;

std::int64_t rounded_up_quotient(std::int64_t value, std::int64_t divisor) { return (value + divisor - 1) / divisor; }

std::int64_t tile_count(const RowGroup& group) {
  return rounded_up_quotient(static_cast<std::int64_t>(group.rows.size()), kTileRows);
}

}  // namespace

std::vector<RowGroup> one_group(std::int64_t count) {
  std::vector<RowGroup> groups(1);
  groups[0].rows.resize(static_cast<std::size_t>(count));
  std::iota(groups[0].rows.begin(), groups[0].rows.end(), 0);
  return groups;
}

std::vector<RowGroup> groups_by_matrix(std::span<const std::int32_t> chosen, std::int64_t matrices) {
  std::vector<RowGroup> groups(static_cast<std::size_t>(matrices));
  for (std::size_t row = 0; row < chosen.size(); ++row) {
    groups[static_cast<std::size_t>(chosen[row])].rows.push_back(static_cast<std::int32_t>(row));
  }
  std::int64_t first_tile = 0;
  for (std::size_t matrix = 0; matrix < groups.size(); ++matrix) {
    groups[matrix].matrix = static_cast<std::int64_t>(matrix);
    groups[matrix].first_tile = first_tile;
    first_tile += tile_count(groups[matrix]);
  }
  std::erase_if(groups, [](const RowGroup& group) { return group.rows.empty(); });
  return groups;
}

std::int64_t most_tiles(std::int64_t rows, std::int64_t groups) {
  return rounded_up_quotient(rows + std::min(rows, groups) * (kTileRows - 1), kTileRows);
}

std::int64_t tile_bytes(CodeWidth width, std::int64_t columns) {
  return columns / kBlockGroup * tile_group_bytes(width);
}

void make_tiles(CodeWidth width, std::int64_t columns, std::span<const RowGroup> groups, const float* inputs,
                std::int64_t rows_per_input, std::byte* tiles, int thread, int threads) {
  const BlockKernels& kernels = *find_block_kernels(width);
  std::int64_t next = 0;
  for (const RowGroup& group : groups) {
    for (std::int64_t tile = 0; tile < tile_count(group); ++tile) {
      if (next++ % threads != thread) continue;
      std::array<const float*, kTileRows> rows{};
      const auto count = static_cast<std::int64_t>(group.rows.size());
      for (std::int64_t i = 0; i < std::min(kTileRows, count - tile * kTileRows); ++i) {
        const std::int32_t row = group.rows[static_cast<std::size_t>(tile * kTileRows + i)];
        rows[static_cast<std::size_t>(i)] = inputs + row / rows_per_input * columns;
      }
      kernels.make_tile(rows.data(), columns / kBlockGroup,
                        tiles + (group.first_tile + tile) * tile_bytes(width, columns));
    }
  }
}

BlockMatrix::BlockMatrix(const BlockForm& form, CodeForm codes, ByteSpan bytes)
    : form_(form),
      codes_(codes),
      kernels_(*find_block_kernels(codes.width)),
      bytes_(bytes.data()),
      row_bytes_(static_cast<std::int64_t>(bytes.size()) / (form.rows * form.matrices)) {}

std::unique_ptr<const BlockMatrix> BlockMatrix::find(const BlockForm& form, ByteSpan bytes) {
  const auto codes = code_form(form.type, form.columns, form.coding);
  if (!codes || find_block_kernels(codes->width) == nullptr) return nullptr;
  if (form.columns <= 0 || form.rows <= 0 || form.columns % kBlockGroup != 0) return nullptr;
  return std::unique_ptr<const BlockMatrix>(new BlockMatrix(form, *codes, bytes));
}

const std::byte* BlockMatrix::make_panel(std::int64_t matrix, std::int64_t panel) const {
  // For the life of the thread; ggml's threads stay.
  thread_local AlignedBytes panel_memory;
  thread_local AlignedBytes code_memory;
  thread_local std::array<float, kPanelRows * kColumnsAtOnce / kBlockGroup> scales;
  thread_local std::array<float, kPanelRows * kColumnsAtOnce / kBlockGroup> offsets;
  const std::int64_t element = code_bytes(codes_.width);
  const std::int64_t block = model::facts(form_.type).block_size;
  auto* made = static_cast<std::byte*>(
      panel_memory.at_least(static_cast<std::size_t>(form_.columns / kBlockGroup * panel_group_bytes(codes_.width))));
  auto* codes =
      static_cast<std::byte*>(code_memory.at_least(static_cast<std::size_t>(kPanelRows * kColumnsAtOnce * element)));

  const std::int64_t rows = std::min(kPanelRows, form_.rows - panel * kPanelRows);
  const std::byte* first_row = bytes_ + (matrix * form_.rows + panel * kPanelRows) * row_bytes_;
  for (std::int64_t column = 0; column < form_.columns; column += kColumnsAtOnce) {
    const std::int64_t columns = std::min(kColumnsAtOnce, form_.columns - column);
    const std::int64_t groups = columns / kBlockGroup;
    const std::int64_t skipped_bytes = column / block * model::facts(form_.type).block_bytes;
    for (std::int64_t row = 0; row < kPanelRows; ++row) {
      std::byte* row_codes = codes + row * columns * element;
      if (row < rows) {
        encode_weights(form_.type, codes_.width, kernels_, first_row + row * row_bytes_ + skipped_bytes, columns,
                       row_codes, scales.data() + row * groups, offsets.data() + row * groups);
      } else {
        std::memset(row_codes, 0, static_cast<std::size_t>(columns * element));
        std::fill_n(scales.data() + row * groups, groups, 0.0F);
        std::fill_n(offsets.data() + row * groups, groups, 0.0F);
      }
    }
    kernels_.make_panel({.codes = codes, .scales = scales.data(), .offsets = offsets.data(), .groups = groups},
                        made + column / kBlockGroup * panel_group_bytes(codes_.width));
  }
  return made;
}

void BlockMatrix::multiply_panel(const RowGroup& group, std::int64_t panel, std::int64_t first_tile,
                                 std::int64_t end_tile, const std::byte* tiles, float* results) const {
  const std::byte* weights = make_panel(group.matrix, panel);
  const std::int64_t columns = std::min(kPanelRows, form_.rows - panel * kPanelRows);
  for (std::int64_t tile = first_tile; tile < end_tile; ++tile) {
    alignas(64) std::array<float, kTileRows * kPanelRows> sums{};
    kernels_.multiply(weights, tiles + (group.first_tile + tile) * tile_bytes(codes_.width, form_.columns),
                      form_.columns / kBlockGroup, codes_.offsets, sums.data());
    const auto count = static_cast<std::int64_t>(group.rows.size());
    for (std::int64_t i = 0; i < std::min(kTileRows, count - tile * kTileRows); ++i) {
      const std::int32_t row = group.rows[static_cast<std::size_t>(tile * kTileRows + i)];
      std::copy_n(sums.data() + i * kPanelRows, columns, results + row * form_.rows + panel * kPanelRows);
    }
  }
}

Result<void> BlockMatrix::multiply(std::span<const RowGroup> groups, const std::byte* tiles, float* results, int thread,
                                   int threads) const {
  const std::int64_t panels = rounded_up_quotient(form_.rows, kPanelRows);
  const std::int64_t pieces = panels * static_cast<std::int64_t>(groups.size());
  // A panel is made once for each part, so parts are few.
  const std::int64_t most_parts = threads == 1 ? 1 : rounded_up_quotient(kPiecesPerThread * threads, pieces);
  std::int64_t total = 0;
  for (const RowGroup& group : groups) {
    total += panels * (tile_count(group) + kPanelCost * std::min(most_parts, tile_count(group)));
  }
  std::int64_t before = 0;
  try {
    for (const RowGroup& group : groups) {
      const std::int64_t parts = std::min(most_parts, tile_count(group));
      for (std::int64_t piece = 0; piece < panels * parts; ++piece) {
        const std::int64_t part = piece % parts;
        const std::int64_t first_tile = tile_count(group) * part / parts;
        const std::int64_t end_tile = tile_count(group) * (part + 1) / parts;
        const std::int64_t cost = end_tile - first_tile + kPanelCost;
        // To whom the middle of the piece falls.
        if ((2 * before + cost) * threads / (2 * total) == thread) {
          multiply_panel(group, piece / parts, first_tile, end_tile, tiles, results);
        }
        before += cost;
      }
    }
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kNoCapacity, "no memory for a panel of weights");
  }
  return {};
}

}  // namespace baton::engine
