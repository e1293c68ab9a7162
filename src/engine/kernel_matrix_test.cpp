#include "engine/kernel_matrix.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <cmath>
#include <format>
#include <random>
#include <thread>
#include <vector>

#include "engine/weight_form.h"
#include "model/tensor_type.h"

namespace baton::engine {
namespace {

using model::TensorType;

std::vector<float> random_numbers(std::size_t count, unsigned seed) {
  std::minstd_rand random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// A matrix as a file would have it, and the same widened to F32.
struct FileMatrix {
  FileMatrix(TensorType type, std::int64_t columns, std::int64_t rows) : widened(columns * rows) {
    const auto values = random_numbers(static_cast<std::size_t>(columns * rows), 7);
    const auto ggml = static_cast<ggml_type>(type);
    bytes.resize(ggml_row_size(ggml, columns) * static_cast<std::size_t>(rows));
    ggml_quantize_chunk(ggml, values.data(), bytes.data(), 0, rows, columns, nullptr);
    if (type == TensorType::kF32) {
      widened = values;
    } else {
      ggml_get_type_traits(ggml)->to_float(bytes.data(), widened.data(), columns * rows);
    }
  }
  std::vector<std::byte> bytes;
  std::vector<float> widened;
};

// sqrt(mean((ours - exact)^2) / mean(exact^2)) against sums in double precision of the weights as the file has them.
double relative_error(const FileMatrix& matrix, const std::vector<float>& inputs, const std::vector<float>& results,
                      std::int64_t columns, std::int64_t rows) {
  double error = 0;
  double power = 0;
  // A sample where there are many, of all rows and columns.
  const std::size_t step = results.size() < 4096 ? 1 : 67;
  for (std::size_t index = 0; index < results.size(); index += step) {
    const float* input = inputs.data() + index / rows * columns;
    const float* weight = matrix.widened.data() + index % rows * columns;
    double exact = 0;
    for (std::int64_t k = 0; k < columns; ++k) exact += static_cast<double>(input[k]) * weight[k];
    error += (results[index] - exact) * (results[index] - exact);
    power += exact * exact;
  }
  return std::sqrt(error / power);
}

struct KernelCase {
  TensorType type;
  PrefillPack pack;
  double most_error;
};

class KernelMatrixOf : public testing::TestWithParam<KernelCase> {
 protected:
  void SetUp() override {
    if (!choose_form(GetParam().type, 256, 64, GetParam().pack)) GTEST_SKIP() << "no such kernels on this processor";
  }
};

// BF16 has 8 bits: rounding both factors gives a relative error of about 2^-9 in a random sum.
constexpr double kF32Error = 1e-6;
constexpr double kBf16Error = 5e-3;
constexpr double kInt8Error = 1.2e-2;
INSTANTIATE_TEST_SUITE_P(Types, KernelMatrixOf,
                         testing::Values(KernelCase{TensorType::kF32, PrefillPack::kAuto, kF32Error},
                                         KernelCase{TensorType::kF16, PrefillPack::kAuto, kF32Error},
                                         KernelCase{TensorType::kBF16, PrefillPack::kF32, kF32Error},
                                         KernelCase{TensorType::kQ8_0, PrefillPack::kF32, 4e-4},  // kept as F16
                                         KernelCase{TensorType::kF32, PrefillPack::kBf16, kBf16Error},
                                         KernelCase{TensorType::kF16, PrefillPack::kBf16, kBf16Error},
                                         KernelCase{TensorType::kBF16, PrefillPack::kAuto, kBf16Error},
                                         KernelCase{TensorType::kQ8_0, PrefillPack::kAuto, kBf16Error},
                                         KernelCase{TensorType::kQ4_0, PrefillPack::kAuto, kBf16Error},
                                         KernelCase{TensorType::kQ4_K, PrefillPack::kAuto, kBf16Error},
                                         KernelCase{TensorType::kQ6_K, PrefillPack::kAuto, kBf16Error},
                                         KernelCase{TensorType::kQ8_0, PrefillPack::kInt8, kBf16Error},
                                         KernelCase{TensorType::kQ4_0, PrefillPack::kInt8, kInt8Error},
                                         KernelCase{TensorType::kF16, PrefillPack::kInt8, kBf16Error}),
                         [](const auto& test) {
                           return std::format("{}_{}", model::facts(test.param.type).name,
                                              prefill_pack_name(test.param.pack));
                         });

TEST_P(KernelMatrixOf, IsAsCloseAsItsArithmeticAllows) {
  const auto& [type, pack, most_error] = GetParam();
  for (const auto& [columns, rows] : {std::pair<std::int64_t, std::int64_t>{256, 64}, {768, 33}, {512, 1000}}) {
    const FileMatrix source(type, columns, rows);
    const auto form = choose_form(type, columns, rows, pack);
    ASSERT_TRUE(form.has_value());
    const PlainWeights plain(type, source.bytes, *form);
    const auto matrix = make_kernel_matrix(*form, plain.weights(), plain.scales());
    ASSERT_TRUE(matrix.has_value()) << matrix.error().to_string();
    EXPECT_EQ((*matrix)->rows(), rows);
    for (const std::int64_t count : {1, 2, 7, 16, 31, 64, 129, 300, 600}) {
      const auto inputs = random_numbers(static_cast<std::size_t>(count * columns), 11);
      // One row more, which must stay as it is.
      std::vector<float> results(static_cast<std::size_t>((count + 1) * rows), 3.5F);
      const auto done = (*matrix)->multiply(inputs.data(), results.data(), count);
      ASSERT_TRUE(done.has_value()) << done.error().to_string();
      for (std::int64_t out = 0; out < rows; ++out) ASSERT_EQ(results[count * rows + out], 3.5F);
      results.resize(static_cast<std::size_t>(count * rows));
      EXPECT_LT(relative_error(source, inputs, results, columns, rows), most_error)
          << columns << "x" << rows << ", " << count << " rows";
    }
  }
}

TEST_P(KernelMatrixOf, GivesTheSameBitsOnSeveralThreadsAtOnce) {
  const auto& [type, pack, most_error] = GetParam();
  constexpr std::int64_t kColumns = 512;
  constexpr std::int64_t kRows = 384;
  constexpr std::int64_t kCount = 96;
  const FileMatrix source(type, kColumns, kRows);
  const auto form = choose_form(type, kColumns, kRows, pack);
  ASSERT_TRUE(form.has_value());
  const PlainWeights plain(type, source.bytes, *form);
  const auto matrix = make_kernel_matrix(*form, plain.weights(), plain.scales());
  ASSERT_TRUE(matrix.has_value());
  const auto inputs = random_numbers(kCount * kColumns, 5);
  std::vector<float> expected(kCount * kRows);
  ASSERT_TRUE((*matrix)->multiply(inputs.data(), expected.data(), kCount).has_value());
  constexpr std::size_t kThreads = 3;
  std::vector<std::vector<float>> results(kThreads, std::vector<float>(kCount * kRows));
  {
    std::vector<std::jthread> threads;
    for (auto& own : results) {
      threads.emplace_back([&] {
        for (int round = 0; round < 20; ++round) {
          if (!(*matrix)->multiply(inputs.data(), own.data(), kCount)) own.clear();
        }
      });
    }
  }
  for (const auto& own : results) EXPECT_EQ(own, expected);
}

TEST(KernelMatrix, IsNotMadeOfAFormWithoutKernels) {
  const MatrixForm form{.columns = 64, .rows = 64, .arithmetic = Arithmetic::kBf16, .storage = Storage::kF32};
  EXPECT_FALSE(has_kernels(form));
  EXPECT_EQ(packed_bytes(form), 0U);
  const std::vector<float> weights(64 * 64);
  const auto made = make_kernel_matrix(form, weights.data());
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, ErrorCode::kUnsupported);
}

TEST(PrefillPack, IsParsedByItsNamesAlone) {
  for (const PrefillPack pack :
       {PrefillPack::kAuto, PrefillPack::kBf16, PrefillPack::kInt8, PrefillPack::kF32, PrefillPack::kOff}) {
    EXPECT_EQ(parse_prefill_pack(prefill_pack_name(pack)).value_or(PrefillPack::kOff), pack);
  }
  const auto unknown = parse_prefill_pack("fp8");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("fp8"), std::string::npos);
}

TEST(WeightForm, UsesWeightsInPlaceWhereTheFileHasThemAsNeeded) {
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    const auto form = choose_form(type, 256, 64, PrefillPack::kAuto);
    EXPECT_TRUE(!form || is_in_place(type, *form)) << model::facts(type).name;
  }
  for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_K}) {
    const auto form = choose_form(type, 256, 64, PrefillPack::kAuto);
    EXPECT_TRUE(!form || !is_in_place(type, *form)) << model::facts(type).name;
  }
  EXPECT_FALSE(choose_form(TensorType::kF16, 256, 64, PrefillPack::kOff).has_value());
}

}  // namespace
}  // namespace baton::engine
