#include "engine/step_matrix.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace baton::engine {
namespace {

using model::TensorType;

std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

class StepMatrixOf : public testing::TestWithParam<TensorType> {
 protected:
  // A matrix of the type as a file has it, and what its weights stand for.
  void make(std::int64_t columns, std::int64_t rows) {
    columns_ = columns;
    rows_ = rows;
    const auto type = static_cast<ggml_type>(GetParam());
    file_.resize(ggml_row_size(type, columns) * static_cast<std::size_t>(rows));
    const auto weights = random_values(columns * rows, 1);
    ggml_quantize_chunk(type, weights.data(), file_.data(), 0, rows, columns, nullptr);
    weights_ = weights;
    if (type != GGML_TYPE_F32) ggml_get_type_traits(type)->to_float(file_.data(), weights_.data(), columns * rows);
    matrix_ = make_step_matrix(GetParam(), columns, rows, file_);
  }
  bool has_kernel(std::int64_t columns, std::int64_t rows) const {
    return step_copy_bytes(GetParam(), columns, rows).has_value();
  }
  std::vector<float> multiply(const std::vector<float>& activations, std::int64_t count, int threads) const {
    std::vector<float> results(static_cast<std::size_t>(count * rows_), std::nanf(""));
    std::atomic<std::int64_t> taken = 0;
    std::vector<std::jthread> helpers;
    const auto work = [&] { matrix_->multiply(activations.data(), count, results.data(), taken, threads); };
    for (int thread = 1; thread < threads; ++thread) helpers.emplace_back(work);
    work();
    helpers.clear();
    return results;
  }

  std::int64_t columns_ = 0;
  std::int64_t rows_ = 0;
  std::vector<std::byte> file_;
  std::vector<float> weights_;
  std::unique_ptr<const StepMatrix> matrix_;
};

TEST_P(StepMatrixOf, MultipliesAsPreciselyAsItsTypeAllows) {
  if (!has_kernel(448, 80)) GTEST_SKIP() << "this processor has no such kernel";
  make(448, 80);
  constexpr std::int64_t kCount = 5;
  const auto activations = random_values(kCount * columns_, 2);
  const auto results = multiply(activations, kCount, 1);
  double error = 0;
  double power = 0;
  for (std::int64_t row = 0; row < kCount; ++row) {
    for (std::int64_t n = 0; n < rows_; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < columns_; ++k) {
        sum += static_cast<double>(activations[static_cast<std::size_t>(row * columns_ + k)]) *
               weights_[static_cast<std::size_t>(n * columns_ + k)];
      }
      const double difference = sum - results[static_cast<std::size_t>(row * rows_ + n)];
      error += difference * difference;
      power += sum * sum;
    }
  }
  // Bytes: a value is off by up to half a step of 1/127 of the largest of 32, some 2 to 3 standard deviations.
  const bool bytes = GetParam() == TensorType::kQ8_0 || GetParam() == TensorType::kQ4_0;
  EXPECT_LT(std::sqrt(error / power), bytes ? 7e-3 : 1e-6);
}

TEST_P(StepMatrixOf, GivesARowTheSameBitsWhateverIsComputedBesideIt) {
  if (!has_kernel(448, 1040)) GTEST_SKIP() << "this processor has no such kernel";
  make(448, 1040);  // several parts for the threads to take
  constexpr std::int64_t kMost = 19;
  const auto activations = random_values(kMost * columns_, 3);
  std::vector<float> alone;
  for (std::int64_t row = 0; row < kMost; ++row) {
    const auto begin = activations.begin() + row * columns_;
    const auto results = multiply(std::vector<float>(begin, begin + columns_), 1, 1);
    alone.insert(alone.end(), results.begin(), results.end());
  }
  for (std::int64_t count = 1; count <= kMost; ++count) {
    for (const int threads : {1, 2, 3, 7}) {
      const auto results = multiply(activations, count, threads);
      EXPECT_TRUE(std::equal(results.begin(), results.end(), alone.begin())) << count << " rows, " << threads;
    }
  }
}

TEST_P(StepMatrixOf, RefusesShapesThatItsOrderDoesNotFit) {
  EXPECT_FALSE(has_kernel(440, 80));
  const bool bytes = GetParam() == TensorType::kQ8_0 || GetParam() == TensorType::kQ4_0;
  if (!bytes) return;
  EXPECT_FALSE(has_kernel(448, 72));
  EXPECT_FALSE(has_kernel(480, 80));
}

TEST_P(StepMatrixOf, TakesActivationsOfNothing) {
  if (!has_kernel(64, 16)) GTEST_SKIP() << "this processor has no such kernel";
  make(64, 16);
  for (const float result : multiply(std::vector<float>(128, 0.0F), 2, 2)) EXPECT_EQ(result, 0.0F);
}

TEST_P(StepMatrixOf, TakesActivationsTooSmallForAStep) {
  if (!has_kernel(64, 16)) GTEST_SKIP() << "this processor has no such kernel";
  make(64, 16);
  const std::vector<float> activations(64, std::numeric_limits<float>::denorm_min() * 5);
  for (const float result : multiply(activations, 1, 1)) EXPECT_LT(std::abs(result), 1e-36F);
}

TEST_P(StepMatrixOf, HidesNoActivationThatIsNoNumber) {
  if (!has_kernel(64, 16)) GTEST_SKIP() << "this processor has no such kernel";
  make(64, 16);
  for (const float wrong : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    auto activations = random_values(64, 4);
    activations[40] = wrong;
    for (const float result : multiply(activations, 1, 1)) EXPECT_FALSE(std::isfinite(result)) << wrong;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, StepMatrixOf,
                         testing::Values(TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ8_0,
                                         TensorType::kQ4_0),
                         [](const auto& instance) { return std::string(model::facts(instance.param).name); });

TEST(StepMatrix, KnowsNoOtherTypes) {
  EXPECT_FALSE(step_copy_bytes(TensorType::kQ4_K, 256, 256));
  EXPECT_FALSE(step_copy_bytes(TensorType::kQ5_0, 256, 256));
}

}  // namespace
}  // namespace baton::engine
