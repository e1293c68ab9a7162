// AVX2 with F16C and FMA, and AVX-512: the functions name their own target, so the build's baseline stays what it is.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/attention_softmax.h"

#define BATON_AVX2 __attribute__((target("avx2,f16c,fma")))
#define BATON_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c,fma")))

namespace baton::engine {

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

// 2^f for f in [-0.5, 0.5]: the Taylor series of exp(f ln 2) to the sixth power, whose rest is below 2^-26.
constexpr float kPower1 = 0.693147180559945F;
constexpr float kPower2 = 0.240226506959101F;
constexpr float kPower3 = 0.0555041086648216F;
constexpr float kPower4 = 0.00961812910762848F;
constexpr float kPower5 = 0.00133335581464284F;
constexpr float kPower6 = 0.000154035303933816F;
// Below this the result is zero for our purpose, and its exponent would not fit.
constexpr float kLeastPower = -126.0F;

BATON_AVX512 __m512 power_of_two(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(kLeastPower));
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 series = _mm512_set1_ps(kPower6);
  for (const float power : {kPower5, kPower4, kPower3, kPower2, kPower1, 1.0F}) {
    series = _mm512_fmadd_ps(series, part, _mm512_set1_ps(power));
  }
  return _mm512_scalef_ps(series, whole);
}

BATON_AVX2 __m256 power_of_two(__m256 x) {
  x = _mm256_max_ps(x, _mm256_set1_ps(kLeastPower));
  const __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 part = _mm256_sub_ps(x, whole);
  __m256 series = _mm256_set1_ps(kPower6);
  for (const float power : {kPower5, kPower4, kPower3, kPower2, kPower1, 1.0F}) {
    series = _mm256_fmadd_ps(series, part, _mm256_set1_ps(power));
  }
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(series), exponent));
}

// Scores outside [begin, end) are made -infinity, and their exponentials zero.
BATON_AVX512 float soften_avx512(float* scores, std::int64_t columns, float& largest, float& sum) {
  __m512 most = _mm512_set1_ps(kMinusInfinity);
  for (std::int64_t i = 0; i < columns; i += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + i));
  const float before = largest;
  largest = std::max(before, _mm512_reduce_max_ps(most));
  const __m512 offset = _mm512_set1_ps(largest);
  const __m512 nothing = _mm512_set1_ps(kMinusInfinity);
  __m512 total = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < columns; i += 16) {
    const __m512 score = _mm512_loadu_ps(scores + i);
    const __mmask16 seen = _mm512_cmp_ps_mask(score, nothing, _CMP_NEQ_OQ);
    const __m512 power = _mm512_maskz_mov_ps(seen, power_of_two(_mm512_sub_ps(score, offset)));
    _mm512_storeu_ps(scores + i, power);
    total = _mm512_add_ps(total, power);
  }
  const float factor = before == kMinusInfinity ? 0.0F : std::exp2(before - largest);
  sum = sum * factor + _mm512_reduce_add_ps(total);
  return factor;
}

BATON_AVX2 float soften_avx2(float* scores, std::int64_t columns, float& largest, float& sum) {
  alignas(32) float lanes[8];
  __m256 most = _mm256_set1_ps(kMinusInfinity);
  for (std::int64_t i = 0; i < columns; i += 8) most = _mm256_max_ps(most, _mm256_loadu_ps(scores + i));
  _mm256_store_ps(lanes, most);
  const float before = largest;
  for (const float lane : lanes) largest = std::max(largest, lane);
  const __m256 offset = _mm256_set1_ps(largest);
  const __m256 nothing = _mm256_set1_ps(kMinusInfinity);
  __m256 total = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < columns; i += 8) {
    const __m256 score = _mm256_loadu_ps(scores + i);
    const __m256 seen = _mm256_cmp_ps(score, nothing, _CMP_NEQ_OQ);
    const __m256 power = _mm256_and_ps(seen, power_of_two(_mm256_sub_ps(score, offset)));
    _mm256_storeu_ps(scores + i, power);
    total = _mm256_add_ps(total, power);
  }
  _mm256_store_ps(lanes, total);
  float added = 0;
  for (const float lane : lanes) added += lane;
  const float factor = before == kMinusInfinity ? 0.0F : std::exp2(before - largest);
  sum = sum * factor + added;
  return factor;
}

BATON_AVX2 __m256 widened(const std::byte* source) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
}

}  // namespace

bool can_soften() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma");
}

float soften_row(float* scores, std::int64_t columns, std::int64_t begin, std::int64_t end, float& largest,
                 float& sum) {
  std::fill(scores, scores + begin, kMinusInfinity);
  std::fill(scores + end, scores + columns, kMinusInfinity);
  return has_avx512() ? soften_avx512(scores, columns, largest, sum) : soften_avx2(scores, columns, largest, sum);
}

BATON_AVX2 void scale_row(float* values, std::int64_t count, float factor) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (std::int64_t i = 0; i < count; i += 8) {
    _mm256_storeu_ps(values + i, _mm256_mul_ps(factors, _mm256_loadu_ps(values + i)));
  }
}

BATON_AVX2 void widen(const std::byte* source, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                      float* target) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < columns; i += 8) {
      _mm256_storeu_ps(target + row * columns + i, widened(source + row * stride + i * 2));
    }
  }
}

BATON_AVX2 void widen_transposed(const std::byte* source, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                                 float* target) {
  for (std::int64_t row = 0; row < rows; row += 8) {
    for (std::int64_t column = 0; column < columns; column += 8) {
      // Eight by eight: pairs of rows, then of pairs, then of halves change places.
      __m256 in[8];
      __m256 out[8];
      for (int i = 0; i < 8; ++i) in[i] = widened(source + (row + i) * stride + column * 2);
      for (int i = 0; i < 4; ++i) {
        out[2 * i] = _mm256_unpacklo_ps(in[2 * i], in[2 * i + 1]);
        out[2 * i + 1] = _mm256_unpackhi_ps(in[2 * i], in[2 * i + 1]);
      }
      for (int i = 0; i < 2; ++i) {
        in[4 * i] = _mm256_shuffle_ps(out[4 * i], out[4 * i + 2], 0x44);
        in[4 * i + 1] = _mm256_shuffle_ps(out[4 * i], out[4 * i + 2], 0xEE);
        in[4 * i + 2] = _mm256_shuffle_ps(out[4 * i + 1], out[4 * i + 3], 0x44);
        in[4 * i + 3] = _mm256_shuffle_ps(out[4 * i + 1], out[4 * i + 3], 0xEE);
      }
      for (int i = 0; i < 4; ++i) {
        out[i] = _mm256_permute2f128_ps(in[i], in[i + 4], 0x20);
        out[i + 4] = _mm256_permute2f128_ps(in[i], in[i + 4], 0x31);
      }
      for (int i = 0; i < 8; ++i) _mm256_storeu_ps(target + (column + i) * rows + row, out[i]);
    }
  }
}

}  // namespace baton::engine
