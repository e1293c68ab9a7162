// What the user may ask of prefill on a CPU: --prefill-pack.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace baton::engine {

// How passes of many rows multiply by the layers' weights. Products in whole numbers (block_matrix.h) use the file's
// own bytes. Weights for products of floating numbers that are not used where they lie in the file are packed when they
// are loaded: copied in the order that the processor's matrix kernels read.
enum class PrefillPack : std::uint8_t {
  // The fastest of what is at least as close to exact arithmetic as ggml's own path. Whole numbers where the processor
  // has instructions for them: of 8 bits for quantised weights, of 16 for F16 and Q6_K. Else F32 activations with F16
  // weights, and BF16 ones with packed copies of quantised weights, where memory suffices for them. F32 weights get F32
  // activations, BF16 weights BF16.
  kAuto,
  kBf16,  // BF16 for every weight: for F16 and F32 ones coarser, for quantised ones closer
  // Whole numbers of 8 bits for every weight: fastest and coarsest. Where the processor has none, and for types that
  // are not made of such, BF16 with packed copies of 8 bits.
  kInt8,
  kF32,  // F32 activations for every weight: closest, slower; quantised weights are kept as F16
  kOff,  // ggml alone
};

// Whether layers count as loaded before their weights are packed. If they do, passes of few rows compute without packed
// weights at first, and the bits of their results depend on how far the packing has got; passes of many rows wait,
// which is also the quickest.
enum class WhilePacking : std::uint8_t { kWait, kComputeWithout };

struct PackingProgress {
  std::uint64_t packed_bytes = 0;
  std::uint64_t total_bytes = 0;
};

std::string_view prefill_pack_name(PrefillPack pack);  // "auto", "bf16", "int8", "f32", "off"
Result<PrefillPack> parse_prefill_pack(std::string_view name);

}  // namespace baton::engine
