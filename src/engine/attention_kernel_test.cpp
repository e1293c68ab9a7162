#include "engine/attention_kernel.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace baton::engine {
namespace {

std::vector<float> spread_numbers(std::int64_t count, unsigned seed, float spread = 1.0F) {
  std::minstd_rand random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// Queries, keys and values of one span, and attention over them by the definition, in double precision.
struct Problem {
  Problem(const AttentionForm& form_in, std::int64_t rows_in, std::int64_t first_row_in, std::int64_t window_in,
          float spread = 1.0F)
      : form(form_in), rows(rows_in), first_row(first_row_in), window(window_in) {
    cells =
        (first_row + rows + AttentionKernel::kCellTile - 1) / AttentionKernel::kCellTile * AttentionKernel::kCellTile;
    queries = spread_numbers(rows * form.heads * form.key_width, 1, spread);
    keys = halves(cells * form.kv_heads * form.key_width, 2);
    values = halves(cells * form.kv_heads * form.value_width, 3);
  }

  static std::vector<ggml_fp16_t> halves(std::int64_t count, unsigned seed) {
    const auto numbers = spread_numbers(count, seed);
    std::vector<ggml_fp16_t> result(numbers.size());
    ggml_fp32_to_fp16_row(numbers.data(), result.data(), count);
    return result;
  }

  std::vector<float> solve(const AttentionKernel& kernel, int threads) const {
    std::vector<float> results(static_cast<std::size_t>(rows * form.heads * form.value_width), NAN);
    for (int thread = 0; thread < threads; ++thread) {
      const auto done = kernel.compute({.queries = queries.data(),
                                        .keys = reinterpret_cast<const std::byte*>(keys.data()),
                                        .values = reinterpret_cast<const std::byte*>(values.data()),
                                        .rows = rows,
                                        .first_row = first_row,
                                        .window = window,
                                        .results = results.data()},
                                       thread, threads);
      EXPECT_TRUE(done.has_value()) << done.error().to_string();
    }
    return results;
  }

  std::vector<double> exact_row(std::int64_t row, std::int64_t head) const {
    const std::int64_t kv_head = head / (form.heads / form.kv_heads);
    const std::int64_t end = first_row + row + 1;
    const std::int64_t begin = window == 0 ? 0 : std::max<std::int64_t>(0, end - window);
    std::vector<double> scores;
    for (std::int64_t cell = begin; cell < end; ++cell) {
      double score = 0;
      for (std::int64_t i = 0; i < form.key_width; ++i) {
        score += static_cast<double>(queries[(row * form.heads + head) * form.key_width + i]) *
                 ggml_fp16_to_fp32(keys[(cell * form.kv_heads + kv_head) * form.key_width + i]);
      }
      scores.push_back(score * form.scale);
    }
    const double largest = std::ranges::max(scores);
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - largest);
    std::vector<double> result(static_cast<std::size_t>(form.value_width));
    for (std::int64_t cell = begin; cell < end; ++cell) {
      for (std::int64_t i = 0; i < form.value_width; ++i) {
        result[i] += scores[cell - begin] / sum *
                     ggml_fp16_to_fp32(values[(cell * form.kv_heads + kv_head) * form.value_width + i]);
      }
    }
    return result;
  }

  // sqrt(mean squared error / mean square)
  double error_of(const std::vector<float>& results) const {
    double error = 0;
    double power = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t head = 0; head < form.heads; ++head) {
        const auto exact = exact_row(row, head);
        const float* ours = results.data() + (row * form.heads + head) * form.value_width;
        for (std::int64_t i = 0; i < form.value_width; ++i) {
          error += (ours[i] - exact[i]) * (ours[i] - exact[i]);
          power += exact[i] * exact[i];
        }
      }
    }
    return std::sqrt(error / power);
  }

  AttentionForm form;
  std::int64_t rows;
  std::int64_t first_row;
  std::int64_t window;
  std::int64_t cells = 0;
  std::vector<float> queries;
  std::vector<ggml_fp16_t> keys;
  std::vector<ggml_fp16_t> values;
};

class TiledAttention : public testing::Test {
 protected:
  void SetUp() override {
    if (find_attention_kernel(kGrouped) == nullptr) GTEST_SKIP() << "no such kernels on this processor";
  }
  static constexpr AttentionForm kGrouped{
      .heads = 8, .kv_heads = 2, .key_width = 64, .value_width = 64, .scale = 0.125F};
  static constexpr double kMostError = 2e-6;
};

TEST_F(TiledAttention, IsTheDefinitionForAnyNumberOfRowsAndAnyStart) {
  for (const auto& [rows, first_row] :
       {std::pair<std::int64_t, std::int64_t>{16, 0}, {1, 0}, {63, 1}, {65, 127}, {128, 128}, {200, 300}, {600, 0}}) {
    const Problem problem(kGrouped, rows, first_row, 0);
    EXPECT_LT(problem.error_of(problem.solve(*find_attention_kernel(kGrouped), 1)), kMostError)
        << rows << " rows from " << first_row;
  }
}

TEST_F(TiledAttention, SeesNoFurtherThanItsWindow) {
  for (const std::int64_t window : {1, 7, 128, 129, 200, 4096}) {
    const Problem problem(kGrouped, 150, 310, window);
    EXPECT_LT(problem.error_of(problem.solve(*find_attention_kernel(kGrouped), 1)), kMostError) << window;
  }
}

TEST_F(TiledAttention, TakesHeadsOfManyShapes) {
  for (const AttentionForm& form :
       {AttentionForm{1, 1, 32, 32, 0.2F}, AttentionForm{6, 6, 128, 128, 0.09F}, AttentionForm{14, 2, 64, 64, 0.125F},
        AttentionForm{4, 1, 256, 256, 0.0625F}, AttentionForm{6, 3, 192, 128, 0.07F},
        AttentionForm{300, 1, 16, 8, 0.25F}, AttentionForm{4, 2, 80, 80, 0.11F}}) {
    const auto kernel = find_attention_kernel(form);
    ASSERT_NE(kernel, nullptr) << form.heads << "/" << form.kv_heads;
    const Problem problem(form, 70, 90, 0);
    EXPECT_LT(problem.error_of(problem.solve(*kernel, 1)), kMostError) << form.heads << "/" << form.kv_heads;
  }
}

TEST_F(TiledAttention, KeepsItsSenseWhereScoresAreLarge) {
  const Problem problem(kGrouped, 64, 400, 0, 60.0F);
  EXPECT_LT(problem.error_of(problem.solve(*find_attention_kernel(kGrouped), 1)), 1e-5);
}

TEST_F(TiledAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const Problem problem(kGrouped, 333, 150, 0);
  const auto kernel = find_attention_kernel(kGrouped);
  const auto expected = problem.solve(*kernel, 1);
  EXPECT_EQ(problem.solve(*kernel, 2), expected);
  EXPECT_EQ(problem.solve(*kernel, 7), expected);
  EXPECT_EQ(problem.solve(*kernel, 64), expected);
}

TEST(AttentionKernel, IsNotThereForHeadsItCannotTake) {
  EXPECT_EQ(find_attention_kernel({.heads = 3, .kv_heads = 2, .key_width = 64, .value_width = 64, .scale = 1}),
            nullptr);
  EXPECT_EQ(find_attention_kernel({.heads = 2, .kv_heads = 2, .key_width = 60, .value_width = 64, .scale = 1}),
            nullptr);
}

}  // namespace
}  // namespace baton::engine
