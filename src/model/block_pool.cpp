#include "model/block_pool.h"

#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <format>
#include <span>
#include <thread>
#include <vector>

namespace baton::model {

namespace {

// Nearly Gaussian: the sum of eight uniform 16-bit numbers. Integers alone, so that every machine draws the same.
float bell(std::uint64_t seed, std::uint64_t index) {
  constexpr int kMean = 8 * 32768;
  int sum = -kMean;
  for (const std::uint64_t bits : {mixed(seed, 2 * index), mixed(seed, 2 * index + 1)}) {
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<int>(bits >> shift & 0xFFFF);
  }
  return static_cast<float>(sum);
}

// Some types weigh their errors by each column's importance, and have no default for it.
bool wants_importance(ggml_type type) { return ggml_quantize_requires_imatrix(type) || type == GGML_TYPE_IQ1_M; }

void quantise(TensorType type, std::span<const float> values, std::span<std::byte> out, std::size_t unit) {
  const auto target = static_cast<ggml_type>(type);
  const std::vector<float> importance(wants_importance(target) ? unit : 0, 1.0F);
  ggml_quantize_chunk(target, values.data(), out.data(), 0, static_cast<std::int64_t>(values.size() / unit),
                      static_cast<std::int64_t>(unit), importance.empty() ? nullptr : importance.data());
}

}  // namespace

std::uint64_t mixed(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

Result<BlockPool> BlockPool::create(const Shape& shape, std::uint64_t seed, unsigned threads) {
  if (facts(shape.type).use != TensorUse::kWeight) {
    return fail(ErrorCode::kInvalidArgument, std::format("ggml cannot quantise to {}", facts(shape.type).name));
  }
  BlockPool pool(shape, row_bytes(shape.type, shape.unit));
  ggml_quantize_init(static_cast<ggml_type>(shape.type));
  quantise(shape.type, std::vector<float>(shape.unit), pool.zero_, shape.unit);

  const auto fill = [&](std::uint32_t first, std::uint32_t last) {
    std::vector<float> values(shape.unit);
    for (std::uint32_t piece = first; piece < last; ++piece) {
      double squares = 0;
      for (std::uint32_t i = 0; i < shape.unit; ++i) {
        values[i] = bell(seed, std::uint64_t{piece} * shape.unit + i);
        squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
      const auto scale = static_cast<float>(static_cast<double>(shape.rms) / std::sqrt(squares / shape.unit));
      for (float& value : values) value *= scale;
      quantise(shape.type, values, std::span(pool.bytes_).subspan(piece * pool.unit_bytes_, pool.unit_bytes_),
               shape.unit);
    }
  };
  std::vector<std::jthread> workers;
  for (unsigned i = 0; i < threads; ++i) {
    workers.emplace_back(fill, static_cast<std::uint32_t>(std::uint64_t{shape.count} * i / threads),
                         static_cast<std::uint32_t>(std::uint64_t{shape.count} * (i + 1) / threads));
  }
  workers.clear();
  return pool;
}

}  // namespace baton::model
