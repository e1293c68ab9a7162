#include "model/tensor_type.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace baton::model {

namespace {

using enum TensorType;
using enum TensorUse;

constexpr std::array kTypes = {
    TensorTypeFacts{kF32, "f32", 1, 4, kWeight},
    TensorTypeFacts{kF16, "f16", 1, 2, kWeight},
    TensorTypeFacts{kQ4_0, "q4_0", 32, 18, kWeight},
    TensorTypeFacts{kQ4_1, "q4_1", 32, 20, kWeight},
    TensorTypeFacts{kQ5_0, "q5_0", 32, 22, kWeight},
    TensorTypeFacts{kQ5_1, "q5_1", 32, 24, kWeight},
    TensorTypeFacts{kQ8_0, "q8_0", 32, 34, kWeight},
    TensorTypeFacts{kQ8_1, "q8_1", 32, 36, kStorage},
    TensorTypeFacts{kQ2_K, "q2_K", 256, 84, kWeight},
    TensorTypeFacts{kQ3_K, "q3_K", 256, 110, kWeight},
    TensorTypeFacts{kQ4_K, "q4_K", 256, 144, kWeight},
    TensorTypeFacts{kQ5_K, "q5_K", 256, 176, kWeight},
    TensorTypeFacts{kQ6_K, "q6_K", 256, 210, kWeight},
    TensorTypeFacts{kQ8_K, "q8_K", 256, 292, kStorage},
    TensorTypeFacts{kIQ2_XXS, "iq2_xxs", 256, 66, kWeight},
    TensorTypeFacts{kIQ2_XS, "iq2_xs", 256, 74, kWeight},
    TensorTypeFacts{kIQ3_XXS, "iq3_xxs", 256, 98, kWeight},
    TensorTypeFacts{kIQ1_S, "iq1_s", 256, 50, kWeight},
    TensorTypeFacts{kIQ4_NL, "iq4_nl", 32, 18, kWeight},
    TensorTypeFacts{kIQ3_S, "iq3_s", 256, 110, kWeight},
    TensorTypeFacts{kIQ2_S, "iq2_s", 256, 82, kWeight},
    TensorTypeFacts{kIQ4_XS, "iq4_xs", 256, 136, kWeight},
    TensorTypeFacts{kI8, "i8", 1, 1, kStorage},
    TensorTypeFacts{kI16, "i16", 1, 2, kStorage},
    TensorTypeFacts{kI32, "i32", 1, 4, kStorage},
    TensorTypeFacts{kI64, "i64", 1, 8, kStorage},
    TensorTypeFacts{kF64, "f64", 1, 8, kStorage},
    TensorTypeFacts{kIQ1_M, "iq1_m", 256, 56, kWeight},
    TensorTypeFacts{kBF16, "bf16", 1, 2, kWeight},
    TensorTypeFacts{kTQ1_0, "tq1_0", 256, 54, kWeight},
    TensorTypeFacts{kTQ2_0, "tq2_0", 256, 66, kWeight},
    TensorTypeFacts{kMXFP4, "mxfp4", 32, 17, kWeight},
    TensorTypeFacts{kNVFP4, "nvfp4", 64, 36, kWeight},
    TensorTypeFacts{kQ1_0, "q1_0", 128, 18, kWeight},
    TensorTypeFacts{kQ2_0, "q2_0", 64, 18, kWeight},
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::span<const TensorTypeFacts> all_tensor_types() { return kTypes; }

std::optional<TensorTypeFacts> find_tensor_type(std::uint32_t number) {
  const auto* found = std::ranges::find(kTypes, static_cast<TensorType>(number), &TensorTypeFacts::type);
  if (found == kTypes.end()) return std::nullopt;
  return *found;
}

std::optional<TensorTypeFacts> find_tensor_type(std::string_view name) {
  for (const TensorTypeFacts& entry : kTypes) {
    if (std::ranges::equal(entry.name, name, {}, lower, lower)) return entry;
  }
  return std::nullopt;
}

const TensorTypeFacts& facts(TensorType type) {
  const auto* found = std::ranges::find(kTypes, type, &TensorTypeFacts::type);
  assert(found != kTypes.end());
  return *found;
}

std::uint64_t row_bytes(TensorType type, std::uint64_t elements) {
  const TensorTypeFacts& known = facts(type);
  assert(elements % known.block_size == 0);
  return elements / known.block_size * known.block_bytes;
}

}  // namespace baton::model
