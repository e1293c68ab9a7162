// Products in whole numbers: groups of 32 values with one scale, multiplied by the processor's integer instructions.
// What passes between block_matrix.cpp and the code for an instruction set: block_kernels_x86.cpp, or
// no_block_kernels.cpp where there is none. Private to the engine room.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::engine {

// Consecutive values of a row that are multiplied together. They share a scale.
inline constexpr std::int64_t kBlockGroup = 32;
// A panel is so many rows of weights, a tile so many rows of activations: their product stays in registers.
inline constexpr std::int64_t kPanelRows = 32;
inline constexpr std::int64_t kTileRows = 6;

// k8: both factors as whole numbers of 8 bits; an activation's step is 1/127 of the largest in its group, as in ggml's
// own path for quantised weights.
// k16: of 16 bits. The sum of a group's products must fit 32 bits. By Cauchy and Schwarz it does where neither factor's
// group is longer, as a vector, than 2^15.5; a step is therefore 1/46330 of its group's length, or 1/32767 of its
// largest value if that is more. That is about five times as fine as rounding to F16.
// k8Shared: as k8, but four groups share a scale, so that a quarter as much is left to do with scales.
enum class CodeWidth : std::uint8_t { k8, k16, k8Shared };

// Whether weights are scale x code + offset, or have no offset.
enum class CodeOffsets : std::uint8_t { kNone, kSome };

constexpr std::int64_t code_bytes(CodeWidth width) { return width == CodeWidth::k16 ? 2 : 1; }
constexpr std::int64_t groups_per_scale(CodeWidth width) { return width == CodeWidth::k8Shared ? 4 : 1; }
// What the columns of a matrix must be a multiple of.
constexpr std::int64_t scale_columns(CodeWidth width) { return kBlockGroup * groups_per_scale(width); }

// Rows of weights as whole numbers, before they are brought into a panel's order: a kPanelRows times `groups` of them.
struct CodedRows {
  std::byte* codes = nullptr;  // [row][group][32], signed
  float* scales = nullptr;     // [row][group]; one that is shared stands at each of its groups
  float* offsets = nullptr;    // [row][group]
  std::int64_t groups = 0;     // the length of a row
};

// The orders are the kernels' own business; here is how much memory they take. Both go on from group to group, so a
// part of the groups is a range of bytes.
//   panel, a group: codes [32 bytes or 64 / 4][32 rows][4 bytes], F32 scales [32 rows], F32 offsets [32 rows]
//   tile, a group:  codes [32 bytes or 64 / 4][6 rows][4 bytes], F32 scales [6 rows], F32 sums [6 rows], I32 starts [6]
// Where groups share a scale, sums start where the last group of them says.
constexpr std::int64_t panel_group_bytes(CodeWidth width) {
  return kPanelRows * (kBlockGroup * code_bytes(width) + 2 * static_cast<std::int64_t>(sizeof(float)));
}
constexpr std::int64_t tile_group_bytes(CodeWidth width) {
  return kTileRows * (kBlockGroup * code_bytes(width) + 3 * static_cast<std::int64_t>(sizeof(float)));
}

// `groups` is a multiple of groups_per_scale().
struct BlockKernels {
  // Rounds kTileRows rows of activations into a tile; a row that is nullptr becomes zeros. `groups` groups of each.
  void (*make_tile)(const float* const* rows, std::int64_t groups, std::byte* tile);
  // Brings coded rows into the order of a panel.
  void (*make_panel)(const CodedRows& rows, std::byte* panel);
  // results[tile row][panel row] += their product, over `groups` groups.
  void (*multiply)(const std::byte* panel, const std::byte* tile, std::int64_t groups, CodeOffsets offsets,
                   float* results);
  // Rounds `groups` groups of F32 to codes, with a scale for each.
  void (*encode)(const float* values, std::int64_t groups, std::byte* codes, float* scales);
  // Widens F16 to F32.
  void (*widen)(const std::byte* halves, std::int64_t count, float* values);
};

// nullptr where this processor has no such instructions, or has others that are faster with floating numbers.
const BlockKernels* find_block_kernels(CodeWidth width);

}  // namespace baton::engine
