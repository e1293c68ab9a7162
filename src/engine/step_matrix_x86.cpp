// The matrices on processors with AVX-512 and VNNI.
#include "engine/step_matrix.h"

#include <algorithm>
#include <cstring>

#include "base/memory.h"
#include "engine/aligned_bytes.h"
#include "engine/vnni_x86.h"

namespace baton::engine {

namespace {

using model::TensorType;

// Rows of activations that share one reading of the weights.
constexpr std::int64_t kTile = 8;
constexpr std::int64_t kLanes = kVectorLanes;
constexpr std::int64_t kLineBytes = 64;
// What a thread takes at a time: as long a run as memory likes (a quarter of it was found to be slower), but several
// for each thread, so that they end together.
constexpr std::int64_t kPartBytes = 1 << 20;
constexpr std::int64_t kPartsPerThread = 4;

// The parts of a matrix's rows, in multiples of `step` rows.
class Parts {
 public:
  Parts(std::int64_t rows, std::int64_t row_bytes, std::int64_t step, std::atomic<std::int64_t>& taken, int threads)
      : rows_(rows), taken_(taken) {
    const std::int64_t longest = std::min(kPartBytes / row_bytes, rows / (kPartsPerThread * threads));
    part_ = std::max<std::int64_t>(longest / step, 1) * step;
  }

  // Calls work(begin, end) with the rows of each part that this thread gets.
  template <typename Work>
  void for_each(const Work& work) {
    for (auto begin = next(); begin < rows_; begin = next()) work(begin, std::min(begin + part_, rows_));
  }

 private:
  std::int64_t next() { return taken_.fetch_add(1, std::memory_order_relaxed) * part_; }

  const std::int64_t rows_;
  std::int64_t part_;
  std::atomic<std::int64_t>& taken_;
};

// ---- F32, F16 and BF16, row after row as in the file ----

template <TensorType kType>
constexpr std::int64_t kElementBytes = kType == TensorType::kF32 ? 4 : 2;

template <TensorType kType>
BATON_VNNI inline __m512 load(const std::byte* from) {
  if constexpr (kType == TensorType::kF32) {
    return _mm512_loadu_ps(from);
  } else {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kType == TensorType::kF16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
}

// kRows rows of weights times kCount rows of activations. Each of the products has one sum of its own, whatever else is
// computed beside it. Meanwhile as many bytes from `ahead` on are fetched, from first to last: several rows read side
// by side are not the one long run that the processor would fetch by itself.
template <TensorType kType, int kRows, int kCount>
BATON_VNNI void multiply_block(const std::byte* weights, const std::byte* ahead, std::int64_t columns,
                               const float* activations, float* results, std::int64_t result_stride) {
  constexpr std::int64_t kStepBytes = kLanes * kElementBytes<kType>;
  const std::int64_t row_bytes = columns * kElementBytes<kType>;
  __m512 sums[kRows][kCount];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int index = 0; index < kCount; ++index) sums[row][index] = _mm512_setzero_ps();
  }
#pragma GCC unroll 4
  for (std::int64_t column = 0; column < columns; column += kLanes) {
    const std::int64_t at = column * kElementBytes<kType>;
    if constexpr (kRows > 1) {
#pragma GCC unroll 8
      for (std::int64_t line = 0; line < kRows * kStepBytes; line += kLineBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead) + kRows * at + line, _MM_HINT_T1);
      }
    }
    __m512 loaded[kRows];
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) loaded[row] = load<kType>(weights + row * row_bytes + at);
#pragma GCC unroll 8
    for (int index = 0; index < kCount; ++index) {
      const __m512 values = _mm512_loadu_ps(activations + index * columns + column);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) sums[row][index] = _mm512_fmadd_ps(loaded[row], values, sums[row][index]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int index = 0; index < kCount; ++index) {
      results[index * result_stride + row] = _mm512_reduce_add_ps(sums[row][index]);
    }
  }
}

template <TensorType kType>
class FloatMatrix : public StepMatrix {
 public:
  FloatMatrix(std::int64_t columns, std::int64_t rows, const std::byte* weights)
      : columns_(columns), rows_(rows), weights_(weights) {}

  std::int64_t rows() const override { return rows_; }

  void multiply(const float* activations, std::int64_t count, float* results, std::atomic<std::int64_t>& taken,
                int threads) const override {
    Parts(rows_, columns_ * kElementBytes<kType>, 4, taken, threads).for_each([&](std::int64_t row, std::int64_t end) {
      for (; row + 4 <= end; row += 4) multiply_rows<4>(row, activations, count, results);
      for (; row < end; ++row) multiply_rows<1>(row, activations, count, results);
    });
  }

 private:
  template <int kRows>
  void multiply_rows(std::int64_t row, const float* activations, std::int64_t count, float* results) const {
    const std::byte* weights = weights_ + row * columns_ * kElementBytes<kType>;
    const std::byte* ahead = weights + kRows * columns_ * kElementBytes<kType>;
    for (std::int64_t index = 0; index < count; index += 4) {
      const float* from = activations + index * columns_;
      float* to = results + index * rows_ + row;
      switch (std::min<std::int64_t>(count - index, 4)) {
        case 1: multiply_block<kType, kRows, 1>(weights, ahead, columns_, from, to, rows_); break;
        case 2: multiply_block<kType, kRows, 2>(weights, ahead, columns_, from, to, rows_); break;
        case 3: multiply_block<kType, kRows, 3>(weights, ahead, columns_, from, to, rows_); break;
        default: multiply_block<kType, kRows, 4>(weights, ahead, columns_, from, to, rows_); break;
      }
      ahead = weights;  // once is enough
    }
  }

  const std::int64_t columns_;
  const std::int64_t rows_;
  const std::byte* const weights_;
};

// ---- Q8_0 and Q4_0, sixteen rows side by side ----

constexpr std::int64_t kGroupRows = 16;
constexpr std::int64_t kBlock = kBlockGroup;  // columns with one scale
constexpr std::int64_t kWords = kBlock / 4;
constexpr std::int64_t kPairColumns = 2 * kBlock;
constexpr std::int64_t kScaleBytes = 2 * kGroupRows * 2;  // of a pair of blocks: F16 [block][row]

// A group of rows lies pair of blocks after pair of blocks: scales, then for each block [word][row][4 bytes]. A word is
// four columns; of Q4_0 a byte holds two columns, 16 apart, as in the file. Bytes are unsigned, kOffset too large.
template <TensorType kType>
constexpr std::int64_t kBlockBytes = kGroupRows * kBlock / (kType == TensorType::kQ8_0 ? 1 : 2);
template <TensorType kType>
constexpr std::int64_t kPairBytes = kScaleBytes + 2 * kBlockBytes<kType>;
template <TensorType kType>
constexpr int kOffset = kType == TensorType::kQ8_0 ? 128 : 8;
template <TensorType kType>
constexpr std::int64_t kFileBlockBytes = kType == TensorType::kQ8_0 ? 34 : 18;

// Rows of activations in bytes: values, and for each block its scale and what the weights' offset adds up to.
struct ByteRows {
  const std::int8_t* values;
  const float* scales;
  const std::int32_t* offsets;
};

BATON_VNNI void round_to_bytes(const float* from, std::int64_t columns, int offset, std::int8_t* values, float* scales,
                               std::int32_t* offsets) {
  for (std::int64_t block = 0; block * kBlock < columns; ++block) {
    scales[block] = find_step<CodeWidth::k8>(from + block * kBlock);
    const GroupCodes codes = encode_group(from + block * kBlock, scales[block]);
    offsets[block] = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(codes.first, codes.second));
    auto* to = reinterpret_cast<__m128i*>(values + block * kBlock);
    _mm_storeu_si128(to, _mm512_cvtsepi32_epi8(codes.first));
    _mm_storeu_si128(to + 1, _mm512_cvtsepi32_epi8(codes.second));
  }
}

BATON_VNNI inline __m512i broadcast_word(const std::int8_t* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof word);
  return _mm512_set1_epi32(word);
}

// One group of weights times kCount rows of activations.
template <TensorType kType, int kCount>
BATON_VNNI void multiply_group(const std::byte* group, std::int64_t columns, ByteRows rows, float* results,
                               std::int64_t result_stride) {
  const std::int64_t blocks = columns / kBlock;
  const __m512i low_half = _mm512_set1_epi8(0x0F);
  __m512 sums[kCount];
#pragma GCC unroll 8
  for (int index = 0; index < kCount; ++index) sums[index] = _mm512_setzero_ps();
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::byte* pair = group + block / 2 * kPairBytes<kType>;
    const std::byte* bytes = pair + kScaleBytes + block % 2 * kBlockBytes<kType>;
    const __m512 scales =
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(pair + block % 2 * (kScaleBytes / 2))));
    __m512i words[kWords];
    if constexpr (kType == TensorType::kQ8_0) {
#pragma GCC unroll 8
      for (int word = 0; word < kWords; ++word) words[word] = _mm512_loadu_si512(bytes + word * 64);
    } else {
#pragma GCC unroll 8
      for (int word = 0; word < kWords / 2; ++word) {
        const __m512i both = _mm512_loadu_si512(bytes + word * 64);
        words[word] = _mm512_and_si512(both, low_half);
        words[word + kWords / 2] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
      }
    }
#pragma GCC unroll 8
    for (int index = 0; index < kCount; ++index) {
      const std::int8_t* values = rows.values + index * columns + block * kBlock;
      // Two sums, as each product waits for the one before it. Whole numbers: their order changes nothing.
      __m512i even = _mm512_set1_epi32(rows.offsets[index * blocks + block]);
      __m512i odd = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int word = 0; word < kWords; word += 2) {
        even = _mm512_dpbusd_epi32(even, words[word], broadcast_word(values + 4 * word));
        odd = _mm512_dpbusd_epi32(odd, words[word + 1], broadcast_word(values + 4 * word + 4));
      }
      const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(rows.scales[index * blocks + block]));
      sums[index] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), scale, sums[index]);
    }
  }
#pragma GCC unroll 8
  for (int index = 0; index < kCount; ++index) _mm512_storeu_ps(results + index * result_stride, sums[index]);
}

template <TensorType kType, int kCount = kTile>
void multiply_tile(std::int64_t count, const std::byte* group, std::int64_t columns, ByteRows rows, float* results,
                   std::int64_t result_stride) {
  if constexpr (kCount > 1) {
    if (count < kCount) return multiply_tile<kType, kCount - 1>(count, group, columns, rows, results, result_stride);
  }
  multiply_group<kType, kCount>(group, columns, rows, results, result_stride);
}

template <TensorType kType>
class ByteMatrix : public StepMatrix {
 public:
  ByteMatrix(std::int64_t columns, std::int64_t rows, const std::byte* weights) : columns_(columns), rows_(rows) {
    const std::int64_t bytes = rows / kGroupRows * group_bytes();
    auto* to = static_cast<std::byte*>(copy_.at_least(static_cast<std::size_t>(bytes)));
    advise_large_pages({to, static_cast<std::size_t>(bytes)});
    const std::int64_t file_row_bytes = columns / kBlock * kFileBlockBytes<kType>;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t block = 0; block < columns / kBlock; ++block) {
        copy_block(weights + row * file_row_bytes + block * kFileBlockBytes<kType>, row, block, to);
      }
    }
    weights_ = to;
  }

  std::int64_t rows() const override { return rows_; }

  void multiply(const float* activations, std::int64_t count, float* results, std::atomic<std::int64_t>& taken,
                int threads) const override {
    // Each thread rounds all activations by itself: that takes less than to wait for another that does.
    static thread_local AlignedBytes scratch;
    const std::int64_t blocks = columns_ / kBlock;
    const std::size_t value_bytes = AlignedBytes::rounded(static_cast<std::size_t>(count * columns_));
    const std::size_t scale_bytes = static_cast<std::size_t>(count * blocks) * sizeof(float);
    auto* values = static_cast<std::int8_t*>(scratch.at_least(value_bytes + 2 * scale_bytes));
    auto* scales = reinterpret_cast<float*>(values + value_bytes);
    auto* offsets = reinterpret_cast<std::int32_t*>(values + value_bytes + scale_bytes);
    for (std::int64_t row = 0; row < count; ++row) {
      round_to_bytes(activations + row * columns_, columns_, kOffset<kType>, values + row * columns_,
                     scales + row * blocks, offsets + row * blocks);
    }
    Parts(rows_, group_bytes() / kGroupRows, kGroupRows, taken, threads)
        .for_each([&](std::int64_t first, std::int64_t end) {
          for (; first < end; first += kGroupRows) {
            for (std::int64_t row = 0; row < count; row += kTile) {
              multiply_tile<kType>(std::min(count - row, kTile), weights_ + first / kGroupRows * group_bytes(),
                                   columns_, {values + row * columns_, scales + row * blocks, offsets + row * blocks},
                                   results + row * rows_ + first, rows_);
            }
          }
        });
  }

 private:
  std::int64_t group_bytes() const { return columns_ / kPairColumns * kPairBytes<kType>; }

  void copy_block(const std::byte* from, std::int64_t row, std::int64_t block, std::byte* to) const {
    const std::int64_t lane = row % kGroupRows;
    std::byte* pair = to + row / kGroupRows * group_bytes() + block / 2 * kPairBytes<kType>;
    std::memcpy(pair + (block % 2 * kGroupRows + lane) * 2, from, 2);
    std::byte* words = pair + kScaleBytes + block % 2 * kBlockBytes<kType> + lane * 4;
    for (std::int64_t word = 0; word < (kFileBlockBytes<kType> - 2) / 4; ++word) {
      std::uint32_t four;
      std::memcpy(&four, from + 2 + word * 4, sizeof four);
      if constexpr (kType == TensorType::kQ8_0) four ^= 0x80808080U;  // adds 128 to each byte
      std::memcpy(words + word * kGroupRows * 4, &four, sizeof four);
    }
  }

  const std::int64_t columns_;
  const std::int64_t rows_;
  AlignedBytes copy_;
  const std::byte* weights_ = nullptr;
};

}  // namespace

std::optional<std::uint64_t> step_copy_bytes(TensorType type, std::int64_t columns, std::int64_t rows) {
  if (!has_vnni()) return std::nullopt;
  const bool in_groups = columns % kPairColumns == 0 && rows % kGroupRows == 0;
  const auto pairs = static_cast<std::uint64_t>(columns / kPairColumns * (rows / kGroupRows));
  switch (type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16: return columns % kLanes == 0 ? std::optional<std::uint64_t>(0) : std::nullopt;
    case TensorType::kQ8_0: return in_groups ? std::optional(pairs * kPairBytes<TensorType::kQ8_0>) : std::nullopt;
    case TensorType::kQ4_0: return in_groups ? std::optional(pairs * kPairBytes<TensorType::kQ4_0>) : std::nullopt;
    default: return std::nullopt;
  }
}

std::unique_ptr<const StepMatrix> make_step_matrix(TensorType type, std::int64_t columns, std::int64_t rows,
                                                   ByteSpan weights) {
  switch (type) {
    case TensorType::kF32: return std::make_unique<FloatMatrix<TensorType::kF32>>(columns, rows, weights.data());
    case TensorType::kF16: return std::make_unique<FloatMatrix<TensorType::kF16>>(columns, rows, weights.data());
    case TensorType::kBF16: return std::make_unique<FloatMatrix<TensorType::kBF16>>(columns, rows, weights.data());
    case TensorType::kQ8_0: return std::make_unique<ByteMatrix<TensorType::kQ8_0>>(columns, rows, weights.data());
    case TensorType::kQ4_0: return std::make_unique<ByteMatrix<TensorType::kQ4_0>>(columns, rows, weights.data());
    default: return nullptr;
  }
}

}  // namespace baton::engine
