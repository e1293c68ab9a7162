// AVX-512 with VNNI: VPDPBUSD and VPDPWSSD (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2) add
// four products of bytes, or two of words, to each of sixteen 32-bit sums. What all code for these instructions shares.
// Private to the engine room's *_x86.cpp.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <limits>

#include "engine/block_kernels.h"

// The functions name their own target, so the build's baseline stays what it is.
#define BATON_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")))

namespace baton::engine {

inline constexpr int kVectorLanes = 16;  // F32 in a vector

inline bool has_vnni() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  return has;
}

// kBlockGroup values as whole numbers times a step.
struct GroupCodes {
  __m512i first;  // as 32-bit numbers
  __m512i second;
};

// The step of groups that share a scale. 0 where all values are smaller than can be told apart. NaN where one is
// infinite or no number, so that all that is computed with the groups is NaN too: nothing hides that it was there.
template <CodeWidth width>
BATON_VNNI inline float find_step(const float* values) {
  constexpr float kLargest8 = 127.0F;
  constexpr float kLargest16 = 32767.0F;
  constexpr float kLongest16 = 46330.0F;  // 2^15.5, less what rounding 32 values can add
  __m512i bits = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < scale_columns(width); i += kVectorLanes) {
    // Without their signs, numbers are in the order of their bits; infinity comes after them, and NaNs last.
    bits = _mm512_max_epu32(bits, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(values + i))));
  }
  const auto largest = std::bit_cast<float>(_mm512_reduce_max_epu32(bits));
  float step = largest / kLargest8;
  if constexpr (width == CodeWidth::k16) {
    const __m512 first = _mm512_loadu_ps(values);
    const __m512 second = _mm512_loadu_ps(values + kVectorLanes);
    const __m512 squares = _mm512_fmadd_ps(first, first, _mm512_mul_ps(second, second));
    const float length = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(_mm512_reduce_add_ps(squares))));
    step = largest / kLargest16;
    if (!(step > length / kLongest16)) step = length / kLongest16;
  }
  using Limits = std::numeric_limits<float>;
  if (!(step <= Limits::max())) return Limits::quiet_NaN();
  return step < Limits::min() ? 0 : step;
}

// `step` as find_step() gave it. Zeros where it is NaN.
BATON_VNNI inline GroupCodes encode_group(const float* values, float step) {
  const __m512 inverse = _mm512_set1_ps(step > 0 ? 1.0F / step : 0.0F);
  const __mmask16 known = step >= 0 ? 0xFFFF : 0;
  return {_mm512_maskz_cvtps_epi32(known, _mm512_mul_ps(_mm512_loadu_ps(values), inverse)),
          _mm512_maskz_cvtps_epi32(known, _mm512_mul_ps(_mm512_loadu_ps(values + kVectorLanes), inverse))};
}

}  // namespace baton::engine
