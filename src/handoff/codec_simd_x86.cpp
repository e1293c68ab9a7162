// AVX2 with F16C, and AVX-512. The functions name their own target, so the build's baseline stays what it is.
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "handoff/codec_kernels.h"

#define BATON_AVX2 __attribute__((target("avx2,f16c")))
#define BATON_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c")))

namespace baton::handoff::kernels {

namespace {

constexpr std::size_t kBlock = 32;
constexpr float kBelowHalf = 0x1.fffffep-2f;
constexpr int kToNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

BATON_AVX2 float scalar_f32(const std::byte* half) {
  std::uint16_t bits;
  std::memcpy(&bits, half, sizeof(bits));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

BATON_AVX2 void store_f16(std::byte* target, float value) {
  const auto bits = static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), kToNearest)));
  std::memcpy(target, &bits, sizeof(bits));
}

// --- AVX2

BATON_AVX2 void decode_f16_avx2(const std::byte* source, float* target, std::size_t count) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i * 2));
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(halves));
  }
  for (; i < count; ++i) target[i] = scalar_f32(source + i * 2);
}

BATON_AVX2 void encode_f16_avx2(const float* source, std::byte* target, std::size_t count) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(source + i), kToNearest);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i * 2), halves);
  }
  for (; i < count; ++i) store_f16(target + i * 2, source[i]);
}

BATON_AVX2 std::uint32_t largest_magnitude_avx2(const __m256i magnitudes[4]) {
  const __m256i quarter =
      _mm256_max_epi32(_mm256_max_epi32(magnitudes[0], magnitudes[1]), _mm256_max_epi32(magnitudes[2], magnitudes[3]));
  __m128i best = _mm_max_epi32(_mm256_castsi256_si128(quarter), _mm256_extracti128_si256(quarter, 1));
  best = _mm_max_epi32(best, _mm_shuffle_epi32(best, 0x4e));
  best = _mm_max_epi32(best, _mm_shuffle_epi32(best, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(best));
}

BATON_AVX2 void decode_q8_0_avx2(const std::byte* source, float* target, std::size_t count) {
  for (std::size_t done = 0; done < count; done += kBlock, source += 2 + kBlock) {
    const __m256 scale = _mm256_set1_ps(scalar_f32(source));
    for (std::size_t i = 0; i < kBlock; i += 8) {
      const __m128i quants = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(source + 2 + i));
      const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(quants));
      _mm256_storeu_ps(target + done + i, _mm256_mul_ps(scale, values));
    }
  }
}

BATON_AVX2 void encode_q8_0_avx2(const float* source, std::byte* target, std::size_t count) {
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  const __m256 sign_mask = _mm256_set1_ps(-0.0f);
  const __m256 below_half = _mm256_set1_ps(kBelowHalf);
  for (std::size_t done = 0; done < count; done += kBlock, target += 2 + kBlock) {
    __m256 values[4];
    __m256i magnitudes[4];
    for (int i = 0; i < 4; ++i) {
      values[i] = _mm256_loadu_ps(source + done + 8 * i);
      magnitudes[i] = _mm256_and_si256(_mm256_castps_si256(values[i]), magnitude_mask);
    }
    const float largest = std::bit_cast<float>(largest_magnitude_avx2(magnitudes));
    const float scale = largest / 127.0f;
    store_f16(target, scale);
    if (!std::isfinite(largest)) {
      std::memset(target + 2, 0, kBlock);
      continue;
    }
    const __m256 inverse = _mm256_set1_ps(scale != 0.0f ? 1.0f / scale : 0.0f);
    __m256i quants[4];
    for (int i = 0; i < 4; ++i) {
      __m256 scaled = _mm256_mul_ps(values[i], inverse);
      scaled = _mm256_min_ps(_mm256_max_ps(scaled, _mm256_set1_ps(-127.0f)), _mm256_set1_ps(127.0f));
      const __m256 away = _mm256_or_ps(below_half, _mm256_and_ps(scaled, sign_mask));
      quants[i] = _mm256_cvttps_epi32(_mm256_add_ps(scaled, away));
    }
    // Packing works within 128-bit lanes; the permutation puts the groups of four back in order.
    const __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(quants[0], quants[1]), _mm256_packs_epi32(quants[2], quants[3]));
    const __m256i ordered = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + 2), ordered);
  }
}

BATON_AVX2 void decode_q4_0_avx2(const std::byte* source, float* target, std::size_t count) {
  const __m128i low_mask = _mm_set1_epi8(15);
  const __m128i eight = _mm_set1_epi8(8);
  for (std::size_t done = 0; done < count; done += kBlock, source += 2 + kBlock / 2) {
    const __m256 scale = _mm256_set1_ps(scalar_f32(source));
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 2));
    const __m128i low = _mm_sub_epi8(_mm_and_si128(packed, low_mask), eight);
    const __m128i high = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(packed, 4), low_mask), eight);
    const __m128i groups[4] = {low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)};
    for (int i = 0; i < 4; ++i) {
      const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(groups[i]));
      _mm256_storeu_ps(target + done + 8 * static_cast<std::size_t>(i), _mm256_mul_ps(scale, values));
    }
  }
}

BATON_AVX2 void encode_q4_0_avx2(const float* source, std::byte* target, std::size_t count) {
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  for (std::size_t done = 0; done < count; done += kBlock, target += 2 + kBlock / 2) {
    __m256 values[4];
    __m256i magnitudes[4];
    for (int i = 0; i < 4; ++i) {
      values[i] = _mm256_loadu_ps(source + done + 8 * i);
      magnitudes[i] = _mm256_and_si256(_mm256_castps_si256(values[i]), magnitude_mask);
    }
    const std::uint32_t largest = largest_magnitude_avx2(magnitudes);
    const __m256i wanted = _mm256_set1_epi32(static_cast<int>(largest));
    std::uint32_t matches = 0;
    for (int i = 0; i < 4; ++i) {
      const __m256 equal = _mm256_castsi256_ps(_mm256_cmpeq_epi32(magnitudes[i], wanted));
      matches |= static_cast<std::uint32_t>(_mm256_movemask_ps(equal)) << (8 * i);
    }
    const float extreme = source[done + static_cast<std::size_t>(std::countr_zero(matches))];
    const float scale = extreme / -8.0f;
    store_f16(target, scale);
    if (!std::isfinite(extreme)) {
      std::memset(target + 2, 0x88, kBlock / 2);
      continue;
    }
    const __m256 inverse = _mm256_set1_ps(scale != 0.0f ? 1.0f / scale : 0.0f);
    __m128i nibbles[4];  // eight 16-bit numbers each
    for (int i = 0; i < 4; ++i) {
      __m256 shifted = _mm256_add_ps(_mm256_mul_ps(values[i], inverse), _mm256_set1_ps(8.5f));
      shifted = _mm256_min_ps(_mm256_max_ps(shifted, _mm256_setzero_ps()), _mm256_set1_ps(15.0f));
      const __m256i wide = _mm256_cvttps_epi32(shifted);
      nibbles[i] = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    }
    const __m128i first = _mm_or_si128(nibbles[0], _mm_slli_epi16(nibbles[2], 4));
    const __m128i second = _mm_or_si128(nibbles[1], _mm_slli_epi16(nibbles[3], 4));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 2), _mm_packus_epi16(first, second));
  }
}

// --- AVX-512, where it is shorter

BATON_AVX512 void decode_f16_avx512(const std::byte* source, float* target, std::size_t count) {
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + i * 2));
    _mm512_storeu_ps(target + i, _mm512_cvtph_ps(halves));
  }
  for (; i < count; ++i) target[i] = scalar_f32(source + i * 2);
}

BATON_AVX512 void encode_f16_avx512(const float* source, std::byte* target, std::size_t count) {
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(source + i), kToNearest);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i * 2), halves);
  }
  for (; i < count; ++i) store_f16(target + i * 2, source[i]);
}

BATON_AVX512 void decode_q8_0_avx512(const std::byte* source, float* target, std::size_t count) {
  for (std::size_t done = 0; done < count; done += kBlock, source += 2 + kBlock) {
    const __m512 scale = _mm512_set1_ps(scalar_f32(source));
    for (std::size_t i = 0; i < kBlock; i += 16) {
      const __m128i quants = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 2 + i));
      const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(quants));
      _mm512_storeu_ps(target + done + i, _mm512_mul_ps(scale, values));
    }
  }
}

BATON_AVX512 __m128i round_to_int8_avx512(__m512 values, __m512 inverse) {
  __m512 scaled = _mm512_mul_ps(values, inverse);
  scaled = _mm512_min_ps(_mm512_max_ps(scaled, _mm512_set1_ps(-127.0f)), _mm512_set1_ps(127.0f));
  const __m512 away = _mm512_or_ps(_mm512_set1_ps(kBelowHalf), _mm512_and_ps(scaled, _mm512_set1_ps(-0.0f)));
  return _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(_mm512_add_ps(scaled, away)));
}

BATON_AVX512 void encode_q8_0_avx512(const float* source, std::byte* target, std::size_t count) {
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  for (std::size_t done = 0; done < count; done += kBlock, target += 2 + kBlock) {
    const __m512 first = _mm512_loadu_ps(source + done);
    const __m512 second = _mm512_loadu_ps(source + done + 16);
    const __m512i both = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(first), magnitude_mask),
                                          _mm512_and_si512(_mm512_castps_si512(second), magnitude_mask));
    const float largest = std::bit_cast<float>(_mm512_reduce_max_epi32(both));
    const float scale = largest / 127.0f;
    store_f16(target, scale);
    if (!std::isfinite(largest)) {
      std::memset(target + 2, 0, kBlock);
      continue;
    }
    const __m512 inverse = _mm512_set1_ps(scale != 0.0f ? 1.0f / scale : 0.0f);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 2), round_to_int8_avx512(first, inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 18), round_to_int8_avx512(second, inverse));
  }
}

Kernels with(Kernels kernels, const char* name, DType dtype, Decode decode, Encode encode) {
  kernels.name = name;
  kernels.decode[static_cast<std::size_t>(dtype)] = decode;
  kernels.encode[static_cast<std::size_t>(dtype)] = encode;
  return kernels;
}

}  // namespace

std::vector<const Kernels*> simd() {
  static const Kernels avx2 = [] {
    Kernels kernels = with(portable(), "avx2", DType::kF16, decode_f16_avx2, encode_f16_avx2);
    kernels = with(kernels, "avx2", DType::kQ8_0, decode_q8_0_avx2, encode_q8_0_avx2);
    return with(kernels, "avx2", DType::kQ4_0, decode_q4_0_avx2, encode_q4_0_avx2);
  }();
  static const Kernels avx512 = [] {
    const Kernels kernels = with(avx2, "avx512", DType::kF16, decode_f16_avx512, encode_f16_avx512);
    return with(kernels, "avx512", DType::kQ8_0, decode_q8_0_avx512, encode_q8_0_avx512);
  }();
  std::vector<const Kernels*> found;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    found.push_back(&avx512);
  }
  if (has_avx2) found.push_back(&avx2);
  return found;
}

}  // namespace baton::handoff::kernels
