// The kernels on processors with AVX-512 and VNNI.
#include "engine/block_kernels.h"

#include <cstring>

#include "engine/vnni_x86.h"

namespace baton::engine {

namespace {

constexpr int kRows = kTileRows;
constexpr int kLanes = kVectorLanes;
constexpr int kVectors = kPanelRows / kLanes;
// VPDPBUSD wants one factor unsigned: weights of 8 bits are shifted by so much, and sums start lower accordingly.
constexpr int kShift = 128;

template <CodeWidth width>
constexpr int kSteps = static_cast<int>(kBlockGroup * code_bytes(width) / 4);

template <CodeWidth width>
BATON_VNNI inline void store_codes(const GroupCodes& codes, std::byte* target) {
  if constexpr (code_bytes(width) == 1) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), _mm512_cvtsepi32_epi8(codes.first));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + kLanes), _mm512_cvtsepi32_epi8(codes.second));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm512_cvtsepi32_epi16(codes.first));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target) + 1, _mm512_cvtsepi32_epi16(codes.second));
  }
}

template <CodeWidth width>
BATON_VNNI void encode(const float* values, std::int64_t groups, std::byte* codes, float* scales) {
  for (std::int64_t first = 0; first < groups; first += groups_per_scale(width)) {
    const float step = find_step<width>(values + first * kBlockGroup);
    for (std::int64_t group = first; group < first + groups_per_scale(width); ++group) {
      const GroupCodes made = encode_group(values + group * kBlockGroup, step);
      store_codes<width>(made, codes + group * kBlockGroup * code_bytes(width));
      scales[group] = step;
    }
  }
}

template <CodeWidth width>
BATON_VNNI void make_tile(const float* const* rows, std::int64_t groups, std::byte* tile) {
  constexpr int kCodes = kSteps<width> * 4;
  alignas(64) std::byte codes[kCodes];
  for (int row = 0; row < kRows; ++row) {
    float scale = 0;
    std::int32_t start = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      std::byte* target = tile + group * tile_group_bytes(width);
      float sum = 0;
      if (rows[row] == nullptr) {
        std::memset(codes, 0, sizeof(codes));
      } else {
        if (group % groups_per_scale(width) == 0) {
          scale = find_step<width>(rows[row] + group * kBlockGroup);
          start = 0;
        }
        const GroupCodes made = encode_group(rows[row] + group * kBlockGroup, scale);
        store_codes<width>(made, codes);
        const std::int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(made.first, made.second));
        sum = scale * static_cast<float>(total);
        if constexpr (code_bytes(width) == 1) start -= kShift * total;
      }
      for (int step = 0; step < kSteps<width>; ++step) {
        std::memcpy(target + (step * kRows + row) * 4, codes + step * 4, 4);
      }
      target += kRows * kCodes + row * 4;
      std::memcpy(target, &scale, 4);
      std::memcpy(target + kRows * 4, &sum, 4);
      std::memcpy(target + kRows * 8, &start, 4);
    }
  }
}

// Eight rows of eight 32-bit numbers become eight columns.
BATON_VNNI inline void transpose_8x8(const std::byte* source, std::int64_t source_stride, std::byte* target,
                                     std::int64_t target_stride, __m256i flip) {
  __m256i in[8];
  __m256i pairs[8];
  __m256i quads[8];
  for (int i = 0; i < 8; ++i) {
    in[i] = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i * source_stride)), flip);
  }
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(in[i], in[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(in[i], in[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m256i low = _mm256_permute2x128_si256(quads[i], quads[i + 4], 0x20);
    const __m256i high = _mm256_permute2x128_si256(quads[i], quads[i + 4], 0x31);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i * target_stride), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + (i + 4) * target_stride), high);
  }
}

template <CodeWidth width>
BATON_VNNI void make_panel(const CodedRows& rows, std::byte* panel) {
  constexpr std::int64_t kGroupBytes = kSteps<width> * 4;
  constexpr std::int64_t kStepBytes = kPanelRows * 4;
  const __m256i flip = _mm256_set1_epi8(code_bytes(width) == 1 ? static_cast<char>(kShift) : 0);
  for (std::int64_t group = 0; group < rows.groups; ++group) {
    std::byte* target = panel + group * panel_group_bytes(width);
    for (std::int64_t row = 0; row < kPanelRows; row += 8) {
      const std::byte* source = rows.codes + (row * rows.groups + group) * kGroupBytes;
      for (std::int64_t part = 0; part < kGroupBytes / 32; ++part) {
        transpose_8x8(source + part * 32, rows.groups * kGroupBytes, target + part * 8 * kStepBytes + row * 4,
                      kStepBytes, flip);
      }
    }
    auto* scales = reinterpret_cast<float*>(target + kSteps<width> * kStepBytes);
    for (std::int64_t row = 0; row < kPanelRows; ++row) {
      scales[row] = rows.scales[row * rows.groups + group];
      scales[kPanelRows + row] = rows.offsets[row * rows.groups + group];
    }
  }
}

template <CodeWidth width>
BATON_VNNI inline __m512i add_products(__m512i sum, __m512i weights, __m512i activations) {
  if constexpr (code_bytes(width) == 1) return _mm512_dpbusd_epi32(sum, weights, activations);
  return _mm512_dpwssd_epi32(sum, weights, activations);
}

BATON_VNNI inline __m512i everywhere(const std::byte* place) {
  std::int32_t value;
  std::memcpy(&value, place, sizeof(value));
  return _mm512_set1_epi32(value);
}

template <CodeWidth width, CodeOffsets offsets>
BATON_VNNI void multiply_groups(const std::byte* panel, const std::byte* tile, std::int64_t groups, float* results) {
  constexpr int kPanelCodes = kSteps<width> * kPanelRows * 4;
  constexpr int kTileCodes = kSteps<width> * kRows * 4;
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 6
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sums[row][v] = _mm512_loadu_ps(results + row * kPanelRows + v * kLanes);
  }
  for (std::int64_t first = 0; first < groups; first += groups_per_scale(width)) {
    // Scales, and where sums start, stand at the last of the groups that share them.
    const std::byte* last_tile = tile + (groups_per_scale(width) - 1) * tile_group_bytes(width);
    __m512i whole[kRows][kVectors];
#pragma GCC unroll 6
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        whole[row][v] = code_bytes(width) == 1 ? everywhere(last_tile + kTileCodes + (2 * kRows + row) * 4)
                                               : _mm512_setzero_si512();
      }
    }
    for (std::int64_t group = 0; group < groups_per_scale(width); ++group) {
#pragma GCC unroll 16
      for (int step = 0; step < kSteps<width>; ++step) {
        __m512i weights[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) weights[v] = _mm512_load_si512(panel + (step * kVectors + v) * 64);
#pragma GCC unroll 6
        for (int row = 0; row < kRows; ++row) {
          const __m512i activations = everywhere(tile + (step * kRows + row) * 4);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            whole[row][v] = add_products<width>(whole[row][v], weights[v], activations);
          }
        }
      }
      panel += panel_group_bytes(width);
      tile += tile_group_bytes(width);
    }
    const auto* weight_scales = reinterpret_cast<const float*>(panel - panel_group_bytes(width) + kPanelCodes);
    const auto* row_scales = reinterpret_cast<const float*>(last_tile + kTileCodes);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __m512 scales = _mm512_load_ps(weight_scales + v * kLanes);
      const __m512 offset = _mm512_load_ps(weight_scales + kPanelRows + v * kLanes);
#pragma GCC unroll 6
      for (int row = 0; row < kRows; ++row) {
        const __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(row_scales[row]));
        sums[row][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[row][v]), both, sums[row][v]);
        if constexpr (offsets == CodeOffsets::kSome) {
          sums[row][v] = _mm512_fmadd_ps(offset, _mm512_set1_ps(row_scales[kRows + row]), sums[row][v]);
        }
      }
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(results + row * kPanelRows + v * kLanes, sums[row][v]);
  }
}

template <CodeWidth width>
void multiply(const std::byte* panel, const std::byte* tile, std::int64_t groups, CodeOffsets offsets, float* results) {
  if (offsets == CodeOffsets::kSome) return multiply_groups<width, CodeOffsets::kSome>(panel, tile, groups, results);
  multiply_groups<width, CodeOffsets::kNone>(panel, tile, groups, results);
}

BATON_VNNI void widen(const std::byte* halves, std::int64_t count, float* values) {
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves + i * 2));
    _mm512_storeu_ps(values + i, _mm512_cvtph_ps(some));
  }
}

template <CodeWidth width>
constexpr BlockKernels kKernels{make_tile<width>, make_panel<width>, multiply<width>, encode<width>, widen};

// AMX multiplies BF16 eight times as fast as these instructions multiply bytes.
bool is_worth_it() { return has_vnni() && !__builtin_cpu_supports("amx-bf16"); }

}  // namespace

const BlockKernels* find_block_kernels(CodeWidth width) {
  static const bool worth_it = is_worth_it();
  if (!worth_it) return nullptr;
  switch (width) {
    case CodeWidth::k8: return &kKernels<CodeWidth::k8>;
    case CodeWidth::k16: return &kKernels<CodeWidth::k16>;
    case CodeWidth::k8Shared: return &kKernels<CodeWidth::k8Shared>;
  }
  return nullptr;
}

}  // namespace baton::engine
