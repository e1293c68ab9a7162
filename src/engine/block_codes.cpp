// Block layouts and their meaning: ggml's block_* structures and dequantize_row_* functions
// (https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c). Numbers are little-endian.
#include "engine/block_codes.h"

#include <ggml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace baton::engine {

namespace {

using model::TensorType;

constexpr std::size_t kGroup = kBlockGroup;
constexpr std::size_t kHalf = kGroup / 2;
constexpr std::size_t kGroupsOf256 = 8;

// The values of IQ4_NL, IQ4_XS and, in halves, of MXFP4 (OCP Microscaling Formats 1.0, E2M1).
constexpr std::array<std::int8_t, 16> kUneven = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                 1,    13,   25,  38,  53,  69,  89,  113};
constexpr std::array<std::int8_t, 16> kHalves = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <typename T>
T read(const std::byte* place) {
  T value;
  std::memcpy(&value, place, sizeof(value));
  return value;
}
float half(const std::byte* place) { return ggml_fp16_to_fp32(read<ggml_fp16_t>(place)); }
std::uint8_t byte_at(const std::byte* place) { return std::to_integer<std::uint8_t>(*place); }

// What one group, or one super-block of eight, becomes.
struct Target {
  std::byte* codes;
  float* scales;
  float* offsets;

  std::int8_t* bytes() const { return reinterpret_cast<std::int8_t*>(codes); }
  void advance(std::size_t groups, std::size_t element_bytes) {
    codes += groups * kGroup * element_bytes;
    scales += groups;
    offsets += groups;
  }
};

// 16 bytes hold the low halves of 32 numbers: first the numbers of the first half, then those of the second.
void split_nibbles(const std::byte* source, std::int8_t* codes, int shift) {
  for (std::size_t i = 0; i < kHalf; ++i) {
    codes[i] = static_cast<std::int8_t>((byte_at(source + i) & 15) + shift);
    codes[i + kHalf] = static_cast<std::int8_t>((byte_at(source + i) >> 4) + shift);
  }
}

void look_nibbles_up(const std::byte* source, const std::array<std::int8_t, 16>& values, std::int8_t* codes) {
  for (std::size_t i = 0; i < kHalf; ++i) {
    codes[i] = values[byte_at(source + i) & 15];
    codes[i + kHalf] = values[byte_at(source + i) >> 4];
  }
}

// Adds the fifth bits, one for each of 32 numbers.
void add_fifth_bits(const std::byte* source, std::int8_t* codes) {
  const auto bits = read<std::uint32_t>(source);
  for (std::size_t i = 0; i < kGroup; ++i) codes[i] = static_cast<std::int8_t>(codes[i] + ((bits >> i & 1U) << 4U));
}

void q8_0(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  std::memcpy(target.codes, block + 2, kGroup);
}

void q4_0(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  split_nibbles(block + 2, target.bytes(), -8);
}

void q4_1(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  target.offsets[0] = half(block + 2);
  split_nibbles(block + 4, target.bytes(), 0);
}

void q5_0(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  split_nibbles(block + 6, target.bytes(), -16);
  add_fifth_bits(block + 2, target.bytes());
}

void q5_1(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  target.offsets[0] = half(block + 2);
  split_nibbles(block + 8, target.bytes(), 0);
  add_fifth_bits(block + 4, target.bytes());
}

void iq4_nl(const std::byte* block, const Target& target) {
  target.scales[0] = half(block);
  look_nibbles_up(block + 2, kUneven, target.bytes());
}

void mxfp4(const std::byte* block, const Target& target) {
  constexpr int kBias = 127;
  target.scales[0] = std::ldexp(1.0F, byte_at(block) - kBias - 1);  // one more for the halves
  look_nibbles_up(block + 1, kHalves, target.bytes());
}

void iq4_xs(const std::byte* block, const Target& target) {
  const float scale = half(block);
  const auto high = read<std::uint16_t>(block + 2);
  for (std::size_t group = 0; group < kGroupsOf256; ++group) {
    const int low = byte_at(block + 4 + group / 2) >> (group % 2 * 4) & 15;
    const int six_bits = low | (high >> (2 * group) & 3) << 4;
    target.scales[group] = scale * static_cast<float>(six_bits - 32);
    look_nibbles_up(block + 8 + group * kHalf, kUneven, target.bytes() + group * kGroup);
  }
}

// Q4_K and Q5_K: eight scales and eight offsets of 6 bits in 12 bytes.
void six_bit_scales(const std::byte* block, const Target& target) {
  const float scale = half(block);
  const float offset = half(block + 2);
  const std::byte* packed = block + 4;
  for (std::size_t group = 0; group < kGroupsOf256; ++group) {
    int first = byte_at(packed + group % 4) & 63;
    int second = byte_at(packed + group % 4 + 4) & 63;
    if (group >= 4) {
      first = (byte_at(packed + group + 4) & 15) | byte_at(packed + group - 4) >> 6 << 4;
      second = byte_at(packed + group + 4) >> 4 | byte_at(packed + group) >> 6 << 4;
    }
    target.scales[group] = scale * static_cast<float>(first);
    target.offsets[group] = -offset * static_cast<float>(second);
  }
}

// 32 bytes hold the low halves of two groups.
void split_two_groups(const std::byte* source, std::int8_t* codes) {
  for (std::size_t i = 0; i < kGroup; ++i) {
    codes[i] = static_cast<std::int8_t>(byte_at(source + i) & 15);
    codes[i + kGroup] = static_cast<std::int8_t>(byte_at(source + i) >> 4);
  }
}

void q4_k(const std::byte* block, const Target& target) {
  six_bit_scales(block, target);
  for (std::size_t pair = 0; pair < kGroupsOf256 / 2; ++pair) {
    split_two_groups(block + 16 + pair * kGroup, target.bytes() + pair * 2 * kGroup);
  }
}

void q5_k(const std::byte* block, const Target& target) {
  six_bit_scales(block, target);
  const std::byte* fifth = block + 16;
  for (std::size_t pair = 0; pair < kGroupsOf256 / 2; ++pair) {
    std::int8_t* codes = target.bytes() + pair * 2 * kGroup;
    split_two_groups(block + 48 + pair * kGroup, codes);
    for (std::size_t i = 0; i < kGroup; ++i) {
      const int bits = byte_at(fifth + i) >> (2 * pair);
      codes[i] = static_cast<std::int8_t>(codes[i] + ((bits & 1) << 4));
      codes[i + kGroup] = static_cast<std::int8_t>(codes[i + kGroup] + ((bits & 2) << 3));
    }
  }
}

// Sixteen scales of 8 bits for sixteen numbers of 6 bits each: their products, at most 2^12, share the block's scale.
void q6_k(const std::byte* block, const Target& target) {
  constexpr std::size_t kScalesAt = 192;
  constexpr std::size_t kScaleAt = 208;
  std::fill_n(target.scales, kGroupsOf256, half(block + kScaleAt));
  for (std::size_t side = 0; side < 2; ++side) {
    const std::byte* low = block + side * 64;
    const std::byte* high = block + 128 + side * kGroup;
    for (std::size_t part = 0; part < 4; ++part) {
      std::byte* codes = target.codes + (side * 4 + part) * kGroup * 2;
      for (std::size_t i = 0; i < kGroup; ++i) {
        const int four = byte_at(low + part % 2 * kGroup + i) >> (part / 2 * 4) & 15;
        const int six = four | (byte_at(high + i) >> (part * 2) & 3) << 4;
        const auto scale = read<std::int8_t>(block + kScalesAt + side * 8 + part * 2 + i / 16);
        const auto code = static_cast<std::int16_t>(scale * (six - 32));
        std::memcpy(codes + i * 2, &code, 2);
      }
    }
  }
}

struct Decoder {
  TensorType type;
  CodeForm form;
  void (*decode)(const std::byte* block, const Target& target);
};

constexpr std::array kDecoders = std::to_array<Decoder>({
    {TensorType::kQ8_0, {CodeWidth::k8, CodeOffsets::kNone}, q8_0},
    {TensorType::kQ4_0, {CodeWidth::k8, CodeOffsets::kNone}, q4_0},
    {TensorType::kQ4_1, {CodeWidth::k8, CodeOffsets::kSome}, q4_1},
    {TensorType::kQ5_0, {CodeWidth::k8, CodeOffsets::kNone}, q5_0},
    {TensorType::kQ5_1, {CodeWidth::k8, CodeOffsets::kSome}, q5_1},
    {TensorType::kIQ4_NL, {CodeWidth::k8, CodeOffsets::kNone}, iq4_nl},
    {TensorType::kIQ4_XS, {CodeWidth::k8, CodeOffsets::kNone}, iq4_xs},
    {TensorType::kMXFP4, {CodeWidth::k8, CodeOffsets::kNone}, mxfp4},
    {TensorType::kQ4_K, {CodeWidth::k8, CodeOffsets::kSome}, q4_k},
    {TensorType::kQ5_K, {CodeWidth::k8, CodeOffsets::kSome}, q5_k},
    {TensorType::kQ6_K, {CodeWidth::k16, CodeOffsets::kNone}, q6_k},
});

const Decoder* find_decoder(TensorType type) {
  const auto* found = std::ranges::find(kDecoders, type, &Decoder::type);
  return found == kDecoders.end() ? nullptr : found;
}

// Weights that are no whole numbers yet are widened so many at a time.
constexpr std::int64_t kAtOnce = 256;

void round_weights(TensorType type, CodeWidth width, const BlockKernels& kernels, const std::byte* source,
                   std::int64_t columns, std::byte* codes, float* scales) {
  alignas(64) std::array<float, kAtOnce> values;
  for (std::int64_t first = 0; first < columns; first += kAtOnce) {
    const std::int64_t count = std::min(kAtOnce, columns - first);
    switch (type) {
      case TensorType::kF16: kernels.widen(source + first * 2, count, values.data()); break;
      case TensorType::kBF16:
        for (std::int64_t i = 0; i < count; ++i) {
          const std::uint32_t bits = std::uint32_t{read<std::uint16_t>(source + (first + i) * 2)} << 16U;
          std::memcpy(&values[static_cast<std::size_t>(i)], &bits, sizeof(bits));
        }
        break;
      default: std::memcpy(values.data(), source + first * 4, static_cast<std::size_t>(count) * 4);
    }
    kernels.encode(values.data(), count / kBlockGroup, codes + first * code_bytes(width), scales + first / kBlockGroup);
  }
}

}  // namespace

std::optional<CodeForm> code_form(TensorType type, std::int64_t columns, Coding coding) {
  const bool coarse = coding == Coding::kCoarse;
  const CodeWidth coarsest = columns % scale_columns(CodeWidth::k8Shared) == 0 ? CodeWidth::k8Shared : CodeWidth::k8;
  switch (type) {
    case TensorType::kF16:
    case TensorType::kBF16: return CodeForm{coarse ? coarsest : CodeWidth::k16, CodeOffsets::kNone};
    case TensorType::kF32:
      if (coarse) return CodeForm{coarsest, CodeOffsets::kNone};
      return std::nullopt;
    default: break;
  }
  const Decoder* decoder = find_decoder(type);
  if (decoder == nullptr) return std::nullopt;
  return decoder->form;
}

void encode_weights(TensorType type, CodeWidth width, const BlockKernels& kernels, const std::byte* source,
                    std::int64_t columns, std::byte* codes, float* scales, float* offsets) {
  std::fill_n(offsets, columns / kBlockGroup, 0.0F);
  const Decoder* decoder = find_decoder(type);
  if (decoder == nullptr) {
    round_weights(type, width, kernels, source, columns, codes, scales);
    return;
  }
  const model::TensorTypeFacts& facts = model::facts(type);
  Target target{codes, scales, offsets};
  for (std::int64_t done = 0; done < columns; done += facts.block_size) {
    decoder->decode(source, target);
    source += facts.block_bytes;
    target.advance(facts.block_size / kGroup, static_cast<std::size_t>(code_bytes(width)));
  }
}

}  // namespace baton::engine
