#include "model/tensor_type.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <string>

namespace baton::model {
namespace {

TEST(TensorType, AgreesWithGgmlOnEveryType) {
  int known = 0;
  for (int number = 0; number < GGML_TYPE_COUNT; ++number) {
    const auto type = static_cast<ggml_type>(number);
    const auto ours = find_tensor_type(static_cast<std::uint32_t>(number));
    // Withdrawn types keep their numbers, without a block size.
    ASSERT_EQ(ours.has_value(), ggml_blck_size(type) != 0) << number;
    if (!ours) continue;
    ++known;
    EXPECT_EQ(std::string(ours->name), ggml_type_name(type));
    EXPECT_EQ(ours->block_size, ggml_blck_size(type));
    EXPECT_EQ(ours->block_bytes, ggml_type_size(type));
    EXPECT_EQ(row_bytes(ours->type, 512), ggml_row_size(type, 512));
  }
  EXPECT_EQ(static_cast<std::size_t>(known), all_tensor_types().size());
}

TEST(TensorType, IsFoundByNameInEitherCase) {
  EXPECT_EQ(find_tensor_type("Q4_k")->type, TensorType::kQ4_K);
  EXPECT_EQ(find_tensor_type("q4_K")->type, TensorType::kQ4_K);
  EXPECT_EQ(find_tensor_type("F16")->type, TensorType::kF16);
  EXPECT_FALSE(find_tensor_type("q4"));
  EXPECT_FALSE(find_tensor_type(""));
  EXPECT_FALSE(find_tensor_type(4));
  EXPECT_FALSE(find_tensor_type(0xFFFFFFFF));
}

}  // namespace
}  // namespace baton::model
