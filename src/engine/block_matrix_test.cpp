#include "engine/block_matrix.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace baton::engine {
namespace {

using model::TensorType;

std::vector<float> random_weights(std::int64_t count, unsigned seed) {
  std::minstd_rand random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// Matrices as a file would have them, and the same widened to F32.
struct FileMatrices {
  FileMatrices(TensorType type, const std::vector<float>& values, std::int64_t columns) : widened(values) {
    const auto ggml = static_cast<ggml_type>(type);
    const auto rows = static_cast<std::int64_t>(values.size()) / columns;
    bytes.resize(ggml_row_size(ggml, columns) * static_cast<std::size_t>(rows));
    ggml_quantize_chunk(ggml, values.data(), bytes.data(), 0, rows, columns, nullptr);
    if (type != TensorType::kF32) {
      ggml_get_type_traits(ggml)->to_float(bytes.data(), widened.data(), columns * rows);
    }
  }
  std::vector<std::byte> bytes;
  std::vector<float> widened;
};

std::vector<float> product(const BlockMatrix& matrix, const std::vector<RowGroup>& groups,
                           const std::vector<float>& inputs, std::int64_t count, std::int64_t rows_per_input = 1,
                           int threads = 1) {
  const std::int64_t columns = matrix.form().columns;
  std::vector<std::byte> tiles(
      static_cast<std::size_t>(most_tiles(count, matrix.form().matrices) * tile_bytes(matrix.width(), columns)));
  for (int thread = 0; thread < threads; ++thread) {
    make_tiles(matrix.width(), columns, groups, inputs.data(), rows_per_input, tiles.data(), thread, threads);
  }
  // One row more, which must stay as it is.
  const auto size = static_cast<std::size_t>(count * matrix.form().rows);
  std::vector<float> results(size + static_cast<std::size_t>(matrix.form().rows), 3.5F);
  for (int thread = 0; thread < threads; ++thread) {
    EXPECT_TRUE(matrix.multiply(groups, tiles.data(), results.data(), thread, threads).has_value());
  }
  for (std::size_t i = size; i < results.size(); ++i) EXPECT_EQ(results[i], 3.5F);
  results.resize(size);
  return results;
}

double exact_product(const float* input, const float* weights, std::int64_t columns) {
  double sum = 0;
  for (std::int64_t k = 0; k < columns; ++k) sum += static_cast<double>(input[k]) * weights[k];
  return sum;
}

bool has_kernels_here() { return find_block_kernels(CodeWidth::k8) != nullptr; }

struct BlockCase {
  TensorType type;
  Coding coding = Coding::kClose;
};

class BlockMatrixOf : public testing::TestWithParam<BlockCase> {
 protected:
  void SetUp() override {
    if (!has_kernels_here()) GTEST_SKIP() << "no such kernels on this processor";
  }
};

INSTANTIATE_TEST_SUITE_P(
    Types, BlockMatrixOf,
    testing::Values(BlockCase{TensorType::kQ8_0}, BlockCase{TensorType::kQ4_0}, BlockCase{TensorType::kQ4_1},
                    BlockCase{TensorType::kQ5_0}, BlockCase{TensorType::kQ5_1}, BlockCase{TensorType::kIQ4_NL},
                    BlockCase{TensorType::kIQ4_XS}, BlockCase{TensorType::kMXFP4}, BlockCase{TensorType::kQ4_K},
                    BlockCase{TensorType::kQ5_K}, BlockCase{TensorType::kQ6_K}, BlockCase{TensorType::kF16},
                    BlockCase{TensorType::kBF16}, BlockCase{TensorType::kF16, Coding::kCoarse},
                    BlockCase{TensorType::kBF16, Coding::kCoarse}, BlockCase{TensorType::kF32, Coding::kCoarse}),
    [](const auto& test) {
      return std::string(model::facts(test.param.type).name) + (test.param.coding == Coding::kCoarse ? "_coarse" : "");
    });

// A step of 8 bits is 1/127 of the largest that shares it, about 2.1 standard deviations in 32 and 2.8 in 128: rounding
// one factor gives 2.1 / 127 / sqrt(12) = 4.8e-3, both of them sqrt(2) times that. One of 16 bits is 1/46330 of
// sqrt(32) deviations.
double most_error(const BlockMatrix& matrix) {
  if (matrix.width() == CodeWidth::k16) return 7.5e-5;
  return matrix.form().coding == Coding::kCoarse ? 1.2e-2 : 7.2e-3;
}

TEST_P(BlockMatrixOf, IsAsCloseAsItsWidthAllows) {
  const auto& [type, coding] = GetParam();
  // Half a stretch of 512, rows that fill no panel, several stretches.
  for (const auto& [columns, rows] : {std::pair<std::int64_t, std::int64_t>{256, 64}, {768, 33}, {1280, 100}}) {
    const FileMatrices source(type, random_weights(columns * rows, 7), columns);
    const auto matrix =
        BlockMatrix::find({.type = type, .coding = coding, .columns = columns, .rows = rows}, source.bytes);
    ASSERT_NE(matrix, nullptr);
    for (const std::int64_t count : {1, 5, 6, 7, 16, 64, 129}) {
      const auto inputs = random_weights(count * columns, 11);
      const auto results = product(*matrix, one_group(count), inputs, count);
      double error = 0;
      double power = 0;
      for (std::int64_t row = 0; row < count; ++row) {
        for (std::int64_t out = 0; out < rows; ++out) {
          const double exact =
              exact_product(inputs.data() + row * columns, source.widened.data() + out * columns, columns);
          const double off = results[static_cast<std::size_t>(row * rows + out)] - exact;
          error += off * off;
          power += exact * exact;
        }
      }
      EXPECT_LT(std::sqrt(error / power), most_error(*matrix)) << columns << "x" << rows << ", " << count << " rows";
    }
  }
}

TEST_P(BlockMatrixOf, GivesTheSameBitsHoweverItIsShared) {
  const auto& [type, coding] = GetParam();
  constexpr std::int64_t kColumns = 512;
  constexpr std::int64_t kRows = 160;
  constexpr std::int64_t kCount = 50;
  const FileMatrices source(type, random_weights(kColumns * kRows, 3), kColumns);
  const auto matrix =
      BlockMatrix::find({.type = type, .coding = coding, .columns = kColumns, .rows = kRows}, source.bytes);
  ASSERT_NE(matrix, nullptr);
  const auto inputs = random_weights(kCount * kColumns, 5);
  const auto expected = product(*matrix, one_group(kCount), inputs, kCount);
  for (const int threads : {2, 3, 16}) {
    EXPECT_EQ(product(*matrix, one_group(kCount), inputs, kCount, 1, threads), expected) << threads;
  }
}

// Each row by the expert that it chose, as if it were alone with that expert.
TEST_P(BlockMatrixOf, MultipliesRowsByTheMatricesTheyChose) {
  const auto& [type, coding] = GetParam();
  constexpr std::int64_t kColumns = 256;
  constexpr std::int64_t kRows = 70;
  constexpr std::int64_t kMatrices = 5;
  constexpr std::int64_t kTokens = 40;
  constexpr std::int64_t kChosen = 2;
  const FileMatrices source(type, random_weights(kColumns * kRows * kMatrices, 3), kColumns);
  const BlockForm form{.type = type, .coding = coding, .columns = kColumns, .rows = kRows, .matrices = kMatrices};
  const auto all = BlockMatrix::find(form, source.bytes);
  ASSERT_NE(all, nullptr);
  // Nobody chooses 3; 0 is chosen by most.
  std::vector<std::int32_t> chosen;
  for (int token = 0; token < kTokens; ++token) {
    chosen.push_back(token % 4 == 0 ? 4 : 0);
    chosen.push_back(token % 3 == 0 ? 2 : 1);
  }
  const auto inputs = random_weights(kTokens * kColumns, 5);
  const auto results = product(*all, groups_by_matrix(chosen, kMatrices), inputs, kTokens * kChosen, kChosen, 3);
  const std::size_t matrix_bytes = source.bytes.size() / kMatrices;
  for (std::int64_t index = 0; index < kMatrices; ++index) {
    BlockForm one = form;
    one.matrices = 1;
    const auto alone = BlockMatrix::find(
        one, ByteSpan(source.bytes).subspan(static_cast<std::size_t>(index) * matrix_bytes, matrix_bytes));
    const auto expected = product(*alone, one_group(kTokens), inputs, kTokens);
    for (std::size_t row = 0; row < chosen.size(); ++row) {
      if (chosen[row] != index) continue;
      for (std::size_t out = 0; out < kRows; ++out) {
        ASSERT_EQ(results[row * kRows + out], expected[row / kChosen * kRows + out]) << row << ", " << out;
      }
    }
  }
}

// Where two groups are as long as they can be and point the same way, their sum is the largest there is.
TEST(BlockMatrix, HasRoomForTheLargestSums) {
  if (!has_kernels_here()) GTEST_SKIP() << "no such kernels on this processor";
  // With one scale, and with one for four groups.
  for (const std::int64_t columns : {32, 128}) {
    const auto size = static_cast<std::size_t>(columns);
    std::vector<float> level(size, -700.0F);
    std::vector<float> peak(size, 0.01F);
    peak[17] = 60000.0F;
    std::vector<float> waves(size);
    for (std::size_t i = 0; i < waves.size(); ++i) waves[i] = i % 2 == 0 ? 3.0F : -3.0F;
    for (const auto& row : {level, peak, waves}) {
      for (const Coding coding : {Coding::kClose, Coding::kCoarse}) {
        const FileMatrices source(TensorType::kF16, row, columns);
        const auto matrix = BlockMatrix::find(
            {.type = TensorType::kF16, .coding = coding, .columns = columns, .rows = 1}, source.bytes);
        ASSERT_NE(matrix, nullptr);
        const double exact = exact_product(row.data(), source.widened.data(), columns);
        EXPECT_NEAR(product(*matrix, one_group(1), row, 1)[0], exact, 1e-4 * exact);
      }
    }
  }
}

TEST_P(BlockMatrixOf, HidesNoActivationThatIsNoNumber) {
  const auto& [type, coding] = GetParam();
  constexpr std::int64_t kColumns = 256;
  constexpr std::int64_t kRows = 40;
  const FileMatrices source(type, random_weights(kColumns * kRows, 3), kColumns);
  const auto matrix =
      BlockMatrix::find({.type = type, .coding = coding, .columns = kColumns, .rows = kRows}, source.bytes);
  ASSERT_NE(matrix, nullptr);
  for (const float wrong : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    auto inputs = random_weights(2 * kColumns, 5);
    inputs[kColumns + 40] = wrong;
    const auto results = product(*matrix, one_group(2), inputs, 2);
    for (std::size_t out = 0; out < kRows; ++out) {
      EXPECT_TRUE(std::isfinite(results[out])) << "another row's";
      EXPECT_FALSE(std::isfinite(results[kRows + out])) << wrong;
    }
  }
}

TEST(BlockMatrix, IsNotFoundForWhatItCannotMultiplyBy) {
  const std::vector<std::byte> bytes(4096);
  EXPECT_EQ(BlockMatrix::find({.type = TensorType::kF32, .columns = 64, .rows = 16}, bytes), nullptr);
  EXPECT_EQ(BlockMatrix::find({.type = TensorType::kIQ2_XS, .columns = 256, .rows = 1}, bytes), nullptr);
  EXPECT_EQ(BlockMatrix::find({.type = TensorType::kF16, .columns = 48, .rows = 16}, bytes), nullptr);
}

TEST(RowGroups, HoldEveryRowOnceAndBeginAtTilesOfTheirOwn) {
  const std::vector<std::int32_t> chosen = {2, 0, 2, 2, 0, 2, 2, 2, 2, 5};
  const auto groups = groups_by_matrix(chosen, 8);
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].rows, (std::vector<std::int32_t>{1, 4}));
  EXPECT_EQ(groups[1].rows, (std::vector<std::int32_t>{0, 2, 3, 5, 6, 7, 8}));
  EXPECT_EQ(groups[2].rows, std::vector<std::int32_t>{9});
  EXPECT_EQ(groups[0].first_tile, 0);
  EXPECT_EQ(groups[1].first_tile, 1);
  EXPECT_EQ(groups[2].first_tile, 3);  // seven rows take two tiles
  EXPECT_EQ(groups[2].matrix, 5);
  EXPECT_GE(most_tiles(static_cast<std::int64_t>(chosen.size()), 8), 4);
}

}  // namespace
}  // namespace baton::engine
