// The inner loops of codec.cpp, once portable and once per instruction set. Internal to the room.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "handoff/codec.h"

namespace baton::handoff::kernels {

// `count` values, a multiple of the format's block. No alignment is assumed of the bytes.
using Decode = void (*)(const std::byte* source, float* target, std::size_t count);
using Encode = void (*)(const float* source, std::byte* target, std::size_t count);

// Indexed by DType; kNone is null.
struct Kernels {
  const char* name;
  std::array<Decode, 6> decode;
  std::array<Encode, 6> encode;
};

// Plain loops that the compiler vectorises for the build's baseline.
const Kernels& portable();
// Those for instruction sets that this processor has beyond the baseline, best first. codec_simd_x86.cpp or
// codec_simd_none.cpp, chosen by CMake.
std::vector<const Kernels*> simd();
// The fastest that this processor runs. All give the same bits.
const Kernels& best();

}  // namespace baton::handoff::kernels
