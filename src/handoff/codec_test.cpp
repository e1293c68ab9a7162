#include "handoff/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/digest.h"
#include "handoff/codec_kernels.h"

namespace baton::handoff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Bytes bytes_of(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<float> floats_of(ByteSpan bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Bytes converted(DType from, ByteSpan source, DType to, std::size_t values) {
  Bytes target(encoded_size(to, values));
  const auto done = convert(from, source, to, target);
  EXPECT_TRUE(done) << done.error().to_string();
  return target;
}

std::string encoded(const std::vector<float>& values, DType to) {
  return to_hex(converted(DType::kF32, bytes_of(values), to, values.size()));
}

std::vector<float> decoded(std::string_view hex, DType from, std::size_t values) {
  return floats_of(converted(from, from_hex(hex).value(), DType::kF32, values));
}

std::string repeat(std::string_view text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(Codec, KnowsNamesAndSizes) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16, DType::kQ8_0, DType::kQ4_0}) {
    EXPECT_EQ(find_dtype(dtype_name(dtype)).value(), dtype);
  }
  EXPECT_EQ(find_dtype("q5_1").error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(find_dtype("none"));
  EXPECT_EQ(encoded_size(DType::kF32, 64), 256u);
  EXPECT_EQ(encoded_size(DType::kF16, 64), 128u);
  EXPECT_EQ(encoded_size(DType::kQ8_0, 64), 68u);
  EXPECT_EQ(encoded_size(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(encoded_size(DType::kNone, 64), 0u);
}

TEST(Codec, RefusesSizesThatDoNotFit) {
  Bytes target(34);
  EXPECT_FALSE(convert(DType::kF16, Bytes(62), DType::kQ8_0, target));
  EXPECT_FALSE(convert(DType::kF16, Bytes(63), DType::kF32, target));
  EXPECT_FALSE(convert(DType::kF16, Bytes(66), DType::kQ8_0, target));
  EXPECT_FALSE(convert(DType::kNone, Bytes(), DType::kQ8_0, target));
  EXPECT_FALSE(convert(DType::kQ8_0, Bytes(33), DType::kQ8_0, target));
  EXPECT_TRUE(convert(DType::kF16, Bytes(64), DType::kQ8_0, target));
  EXPECT_TRUE(convert(DType::kF16, Bytes(), DType::kF32, std::span<std::byte>()));
}

// Values by hand from IEEE 754: sign, exponent, fraction.
TEST(Codec, RoundsToHalfPrecisionLikeIeee) {
  EXPECT_EQ(encoded({0.0f, -0.0f, 1.0f, -2.0f}, DType::kF16), "00000080003c00c0");
  EXPECT_EQ(encoded({65504.0f, 65519.996f, 65520.0f, -1e30f}, DType::kF16), "ff7bff7b007c00fc");
  EXPECT_EQ(encoded({kInfinity, -kInfinity}, DType::kF16), "007c00fc");
  // The smallest subnormal, half of it (a tie to even: zero), a little more, and the largest subnormal.
  EXPECT_EQ(encoded({0x1p-24f, 0x1p-25f, 0x1.000002p-25f, 0x1.ff8p-15f}, DType::kF16), "010000000100ff03");
  // Ties: 1 + 2^-11 lies between 1 and 1 + 2^-10; 1 + 3 * 2^-11 between that and 1 + 2^-9.
  EXPECT_EQ(encoded({1.0f + 0x1p-11f, 1.0f + 0x1.8p-10f}, DType::kF16), "003c023c");
  const auto nan = decoded(encoded({kNan}, DType::kF16), DType::kF16, 1);
  EXPECT_TRUE(std::isnan(nan[0]));
}

TEST(Codec, RoundsToBrainFloats) {
  EXPECT_EQ(encoded({1.0f, -0.0f, kInfinity, 0x1.01p0f, 0x1.03p0f}, DType::kBf16), "803f0080807f803f823f");
  // A NaN whose upper fraction is empty must not round to infinity.
  EXPECT_EQ(encoded({std::bit_cast<float>(0x7f800001u)}, DType::kBf16), "c07f");
  EXPECT_EQ(decoded("803f", DType::kBf16, 1)[0], 1.0f);
}

TEST(Codec, EveryHalfSurvivesThroughFloat) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  const auto source = std::as_bytes(std::span(halves));
  const Bytes wide = converted(DType::kF16, source, DType::kF32, halves.size());
  const auto values = floats_of(wide);
  // The value of each by its definition.
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const int exponent = static_cast<int>(i >> 10 & 31);
    const float fraction = static_cast<float>(i & 1023) / 1024.0f;
    if (exponent == 31) continue;
    const float magnitude = exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1.0f + fraction, exponent - 15);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]),
              std::bit_cast<std::uint32_t>(i < 32768 ? magnitude : -magnitude));
  }
  const Bytes back = converted(DType::kF32, wide, DType::kF16, halves.size());
  for (std::size_t i = 0; i < halves.size(); ++i) {
    std::uint16_t half;
    std::memcpy(&half, back.data() + i * 2, 2);
    const bool signalling = (i & 0x7fff) > 0x7c00 && (i & 0x200) == 0;
    ASSERT_EQ(half, signalling ? i | 0x200 : i);
  }
}

TEST(Codec, QuantisesToEightBits) {
  std::vector<float> values(32, 0.0f);
  EXPECT_EQ(encoded(values, DType::kQ8_0), repeat("00", 34));
  // Scale 1 (0x3c00); halves round away from zero.
  values[0] = 127.0f;
  values[1] = -127.0f;
  values[2] = 0.5f;
  values[3] = -0.5f;
  values[4] = 1.5f;
  values[5] = 0.49999997f;
  values[6] = 2.4999998f;
  values[31] = -3.0f;
  EXPECT_EQ(encoded(values, DType::kQ8_0), "003c7f8101ff020002" + repeat("00", 24) + "fd");
  const auto back = decoded(encoded(values, DType::kQ8_0), DType::kQ8_0, 32);
  EXPECT_EQ(back[0], 127.0f);
  EXPECT_EQ(back[31], -3.0f);
}

TEST(Codec, QuantisesToFourBits) {
  std::vector<float> values(32, 0.0f);
  EXPECT_EQ(encoded(values, DType::kQ4_0), "0080" + repeat("88", 16));  // the reference's scale is 0 / -8 = -0
  // The extreme becomes nibble 0: -8 gives scale 1, and v becomes v + 8 (rounded half up), at most 15.
  values[0] = -8.0f;
  values[1] = 7.0f;
  values[2] = 8.0f;
  values[16] = 1.0f;
  values[17] = -1.5f;
  values[18] = 0.49f;
  EXPECT_EQ(encoded(values, DType::kQ4_0), "003c" + std::string("907f8f") + repeat("88", 13));
  // The first of equal magnitudes decides the sign of the scale.
  values[0] = 8.0f;
  values[2] = -8.0f;
  EXPECT_EQ(encoded(values, DType::kQ4_0).substr(0, 4), "00bc");
  const auto back = decoded("003c" + std::string("907f8f") + repeat("88", 13), DType::kQ4_0, 32);
  EXPECT_EQ(back[0], -8.0f);
  EXPECT_EQ(back[1], 7.0f);
  EXPECT_EQ(back[16], 1.0f);
  EXPECT_EQ(back[17], -1.0f);
}

TEST(Codec, KeepsDamageVisible) {
  for (const float bad : {kInfinity, -kInfinity, kNan}) {
    for (const std::size_t at : {0u, 13u, 31u}) {
      std::vector<float> values(32, 1.0f);
      values[at] = bad;
      for (const DType dtype : {DType::kQ8_0, DType::kQ4_0}) {
        const auto back = decoded(encoded(values, dtype), dtype, 32);
        for (const float value : back) EXPECT_FALSE(std::isfinite(value)) << dtype_name(dtype) << " " << bad;
      }
    }
  }
}

TEST(Codec, StaysWithinHalfAStepOfTheValue) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> values(32 * 100);
  for (float& value : values) value = normal(random);
  const auto q8 = decoded(encoded(values, DType::kQ8_0), DType::kQ8_0, values.size());
  const auto q4 = decoded(encoded(values, DType::kQ4_0), DType::kQ4_0, values.size());
  for (std::size_t block = 0; block < values.size(); block += 32) {
    float largest = 0.0f;
    for (std::size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::abs(values[i]));
    for (std::size_t i = block; i < block + 32; ++i) {
      EXPECT_LE(std::abs(values[i] - q8[i]), largest / 127.0f * 0.5f + largest * 0x1p-10f);
      EXPECT_LE(std::abs(values[i] - q4[i]), largest / 8.0f * 1.0f + largest * 0x1p-9f);
    }
  }
}

// Every instruction set gives the bits of the portable loops, for ordinary, extreme and broken input.
TEST(Codec, AllInstructionSetsAgree) {
  std::mt19937 random(2);
  std::vector<std::vector<float>> inputs;
  std::vector<float> values(4096);
  for (const float spread : {1e-42f, 1e-38f, 1e-7f, 1.0f, 300.0f, 1e38f}) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (float& value : values) value = normal(random) * spread;
    inputs.push_back(values);
  }
  for (float& value : values)
    value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));  // NaN and infinity too
  inputs.push_back(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(i % 509) - 254) * 0.5f;  // halves, to round
    if (i % 32 == 0) values[i] = 127.0f;
  }
  inputs.push_back(values);

  for (const kernels::Kernels* fast : kernels::simd()) {
    for (std::size_t dtype = 1; dtype < fast->encode.size(); ++dtype) {
      for (std::size_t input = 0; input < inputs.size(); ++input) {
        for (const std::size_t count : {std::size_t{4096}, std::size_t{32}}) {
          const std::size_t size = encoded_size(static_cast<DType>(dtype), count);
          Bytes expected(size);
          Bytes actual(size);
          kernels::portable().encode[dtype](inputs[input].data(), expected.data(), count);
          fast->encode[dtype](inputs[input].data(), actual.data(), count);
          ASSERT_EQ(to_hex(actual), to_hex(expected)) << fast->name << " " << dtype << " input " << input;
          std::vector<float> wide(count);
          std::vector<float> fast_wide(count);
          kernels::portable().decode[dtype](expected.data(), wide.data(), count);
          fast->decode[dtype](expected.data(), fast_wide.data(), count);
          ASSERT_EQ(std::memcmp(wide.data(), fast_wide.data(), count * sizeof(float)), 0)
              << fast->name << " " << dtype << " input " << input;
        }
      }
    }
  }
}

TEST(Codec, ConvertsBetweenAnyTwoFormats) {
  std::vector<float> values(32 * 70);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i % 17) - 8);
  const std::vector<DType> all = {DType::kF32, DType::kF16, DType::kBf16, DType::kQ8_0, DType::kQ4_0};
  for (const DType from : all) {
    const Bytes source = converted(DType::kF32, bytes_of(values), from, values.size());
    for (const DType to : all) {
      // By one call, or through f32, the bits are the same.
      const Bytes direct = converted(from, source, to, values.size());
      const Bytes wide = converted(from, source, DType::kF32, values.size());
      EXPECT_EQ(direct, from == to ? source : converted(DType::kF32, wide, to, values.size()));
    }
  }
}

}  // namespace
}  // namespace baton::handoff
