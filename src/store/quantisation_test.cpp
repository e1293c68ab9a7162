#include "store/quantisation.h"

#include <gtest/gtest.h>

namespace baton::store {
namespace {

constexpr std::uint64_t kGb = 1'000'000'000;

std::vector<RemoteModel> repository() {
  const std::vector<RemoteFile> files = {
      {"README.md", 1000, {}},
      {"m-Q4_0.gguf", 4 * kGb, {}},
      {"m-Q8_0.gguf", 8 * kGb, {}},
      {"m-BF16.gguf", 16 * kGb, {}},
      {"Q6_K/m-Q6_K-00002-of-00002.gguf", 3 * kGb, {}},
      {"Q6_K/m-Q6_K-00001-of-00002.gguf", 3 * kGb, {}},
      {"m-Q5_K_M-00001-of-00002.gguf", 3 * kGb, {}},  // its second part is missing
      {"mmproj-m-F16.gguf", kGb, {}},
      {"m-Q4_0_4_4.gguf", 4 * kGb - 1, {}},
      {"m.imatrix.gguf", kGb, {}},
  };
  return models_in(files);
}

TEST(Quantisation, IsReadFromTheFilesName) {
  EXPECT_EQ(quantisation_of("Qwen3-8B-Q4_K_M.gguf"), "Q4_K_M");
  EXPECT_EQ(quantisation_of("Q8_0/m-Q8_0-00001-of-00003.gguf"), "Q8_0");
  EXPECT_EQ(quantisation_of("phi-4-bf16.gguf"), "BF16");
  EXPECT_EQ(quantisation_of("tinyllama-1.1b-chat-v1.0.Q4_K_S.gguf"), "Q4_K_S");
  EXPECT_EQ(quantisation_of("gpt-oss-20b-mxfp4.gguf"), "MXFP4");
  EXPECT_EQ(quantisation_of("m-IQ2_XXS.gguf"), "IQ2_XXS");
  EXPECT_EQ(quantisation_of("m-UD-Q4_K_XL.gguf"), "Q4_K_XL");
  EXPECT_EQ(quantisation_of("m-Q4_K_M-imat.gguf"), "Q4_K_M");
  EXPECT_EQ(quantisation_of("model.gguf"), "");
  EXPECT_EQ(quantisation_of("Qwen3-8B.gguf"), "");
  EXPECT_EQ(quantisation_of(""), "");
}

TEST(Quantisation, GathersWholeModelsSmallestFirst) {
  const auto models = repository();
  std::vector<std::string> names;
  for (const RemoteModel& model : models) names.push_back(model.quantisation);
  EXPECT_EQ(names, (std::vector<std::string>{"Q4_0_4_4", "Q4_0", "Q6_K", "Q8_0", "BF16"}));
  ASSERT_EQ(models[2].parts.size(), 2U);
  EXPECT_EQ(models[2].parts[0].path, "Q6_K/m-Q6_K-00001-of-00002.gguf");
  EXPECT_EQ(models[2].bytes(), 6 * kGb);
}

TEST(Quantisation, ChoosesTheLargestThatLeavesRoomToWork) {
  const auto models = repository();
  EXPECT_EQ(choose(models, "", 100 * kGb)->quantisation, "Q8_0");
  EXPECT_EQ(choose(models, "", 9 * kGb)->quantisation, "Q6_K");  // Q8_0 itself would fit, but nothing beside it
  EXPECT_EQ(choose(models, "", 6 * kGb)->quantisation, "Q4_0");
  EXPECT_EQ(choose(models, "", kGb)->quantisation, "Q4_0");  // none fits: the smallest that is still read
}

TEST(Quantisation, TakesTheOneThatIsNamed) {
  const auto models = repository();
  EXPECT_EQ(choose(models, "bf16", 0)->quantisation, "BF16");
  EXPECT_EQ(choose(models, "m-Q4_0.gguf", 0)->quantisation, "Q4_0");
  const auto missing = choose(models, "Q3_K", 0);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("Q6_K, Q8_0"), std::string::npos);
  EXPECT_EQ(choose({}, "", 0).error().code, ErrorCode::kNotFound);
}

TEST(Quantisation, TakesWideWeightsWhereThereIsNothingElse) {
  const std::vector<RemoteFile> files = {{"m-F16.gguf", kGb, {}}};
  EXPECT_EQ(choose(models_in(files), "", 100 * kGb)->quantisation, "F16");
}

}  // namespace
}  // namespace baton::store
