#include "handoff/codec_kernels.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace baton::handoff::kernels {

namespace {

constexpr std::size_t kBlock = 32;
// The float before one half: truncating x + this with the sign of x rounds halves away from zero, as roundf does,
// without carrying 0.49999997 up to 1.
constexpr float kBelowHalf = 0x1.fffffep-2f;

template <typename T>
T load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* target, T value) {
  std::memcpy(target, &value, sizeof(T));
}

#if defined(__aarch64__)
float f16_to_f32(std::uint16_t half) { return static_cast<float>(std::bit_cast<_Float16>(half)); }
std::uint16_t f32_to_f16(float value) { return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value)); }
#else
float f16_to_f32(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  // The multiplication moves the exponent's bias from 15 to 127, and normalises subnormals as it goes.
  const std::uint32_t finite = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const std::uint32_t quiet = magnitude > 0x0f800000u ? 0x00400000u : 0u;
  return std::bit_cast<float>(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u | quiet : finite));
}

std::uint16_t f32_to_f16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Adding one half lets the float adder round a subnormal result to its last place, 2^-24.
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  std::uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : half;
  return static_cast<std::uint16_t>(sign | half);
}
#endif

std::uint16_t f32_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<std::uint16_t>(is_nan ? bits >> 16 | 0x40u : rounded);
}

void decode_f32(const std::byte* source, float* target, std::size_t count) {
  std::memcpy(target, source, count * sizeof(float));
}
void encode_f32(const float* source, std::byte* target, std::size_t count) {
  std::memcpy(target, source, count * sizeof(float));
}

void decode_f16(const std::byte* source, float* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) target[i] = f16_to_f32(load<std::uint16_t>(source + i * 2));
}
void encode_f16(const float* source, std::byte* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) store(target + i * 2, f32_to_f16(source[i]));
}

void decode_bf16(const std::byte* source, float* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    target[i] = std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(source + i * 2)) << 16);
  }
}
void encode_bf16(const float* source, std::byte* target, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) store(target + i * 2, f32_to_bf16(source[i]));
}

// The largest magnitude of a block as float bits, which order like integers; NaN comes out above infinity.
std::uint32_t largest_magnitude(const float* block) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(block[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

void decode_q8_0(const std::byte* source, float* target, std::size_t count) {
  for (std::size_t done = 0; done < count; done += kBlock, source += 2 + kBlock) {
    const float scale = f16_to_f32(load<std::uint16_t>(source));
    for (std::size_t i = 0; i < kBlock; ++i) {
      target[done + i] = scale * static_cast<float>(load<std::int8_t>(source + 2 + i));
    }
  }
}

void encode_q8_0(const float* source, std::byte* target, std::size_t count) {
  for (std::size_t done = 0; done < count; done += kBlock, target += 2 + kBlock) {
    const float largest = std::bit_cast<float>(largest_magnitude(source + done));
    const float scale = largest / 127.0f;
    store(target, f32_to_f16(scale));
    if (!std::isfinite(largest)) {
      std::memset(target + 2, 0, kBlock);
      continue;
    }
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float scaled = source[done + i] * inverse;
      const float low = scaled > -127.0f ? scaled : -127.0f;  // an inverse of infinity is caught here
      const float clamped = low < 127.0f ? low : 127.0f;
      target[2 + i] = static_cast<std::byte>(static_cast<std::int32_t>(clamped + std::copysign(kBelowHalf, clamped)));
    }
  }
}

void decode_q4_0(const std::byte* source, float* target, std::size_t count) {
  constexpr std::size_t kHalf = kBlock / 2;
  for (std::size_t done = 0; done < count; done += kBlock, source += 2 + kHalf) {
    const float scale = f16_to_f32(load<std::uint16_t>(source));
    for (std::size_t i = 0; i < kHalf; ++i) {
      const int packed = load<std::uint8_t>(source + 2 + i);
      target[done + i] = scale * static_cast<float>((packed & 15) - 8);
      target[done + kHalf + i] = scale * static_cast<float>((packed >> 4) - 8);
    }
  }
}

void encode_q4_0(const float* source, std::byte* target, std::size_t count) {
  constexpr std::size_t kHalf = kBlock / 2;
  for (std::size_t done = 0; done < count; done += kBlock, target += 2 + kHalf) {
    const float* block = source + done;
    const std::uint32_t largest = largest_magnitude(block);
    // The first value of the largest magnitude decides the sign of the scale, and becomes nibble 0.
    float extreme = std::bit_cast<float>(largest);
    for (std::size_t i = kBlock; i-- > 0;) {
      if ((std::bit_cast<std::uint32_t>(block[i]) & 0x7fffffffu) == largest) extreme = block[i];
    }
    const float scale = extreme / -8.0f;
    store(target, f32_to_f16(scale));
    if (!std::isfinite(extreme)) {
      std::memset(target + 2, 0x88, kHalf);
      continue;
    }
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto nibble = [&](float value) {
      const float shifted = value * inverse + 8.5f;
      const float low = shifted > 0.0f ? shifted : 0.0f;
      return static_cast<std::uint32_t>(low < 15.0f ? low : 15.0f);
    };
    for (std::size_t i = 0; i < kHalf; ++i) {
      target[2 + i] = static_cast<std::byte>(nibble(block[i]) | nibble(block[kHalf + i]) << 4);
    }
  }
}

constexpr Kernels kPortable = {"portable",
                               {nullptr, decode_f32, decode_f16, decode_bf16, decode_q8_0, decode_q4_0},
                               {nullptr, encode_f32, encode_f16, encode_bf16, encode_q8_0, encode_q4_0}};

}  // namespace

const Kernels& portable() { return kPortable; }

const Kernels& best() {
  static const Kernels& chosen = [] -> const Kernels& {
    const auto faster = simd();
    return faster.empty() ? kPortable : *faster.front();
  }();
  return chosen;
}

}  // namespace baton::handoff::kernels
