#include "model/description.h"

#include <gtest/gtest.h>

#include <set>

namespace baton::model {
namespace {

TEST(Description, IsFoundByItsArchitecture) {
  for (const char* name : {"llama", "mistral3", "qwen3", "gemma3", "gpt-oss", "glm4moe"}) {
    const auto found = find_description(name);
    ASSERT_TRUE(found.has_value()) << name;
    EXPECT_EQ((*found)->architecture, name);
  }
}

TEST(Description, OfAnUnknownArchitectureIsAnErrorThatNamesItAndTheKnownOnes) {
  const auto found = find_description("mamba");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(found.error().message.find("'mamba'"), std::string::npos);
  EXPECT_NE(found.error().message.find("llama, mistral3, qwen2, qwen3, "), std::string::npos);
}

TEST(Description, NamesEachRoleAtMostOnce) {
  for (const Description& description : all_descriptions()) {
    std::set<LayerTensor> roles;
    for (const LayerTensorRule& rule : description.layer_tensors) {
      const bool matrix = rule.kind == TensorKind::kMatrix || rule.kind == TensorKind::kExpertMatrices;
      EXPECT_EQ(is_multiplied(rule.role), matrix) << rule.name;
      EXPECT_FALSE(rule.name.empty());
      EXPECT_TRUE(roles.insert(rule.role).second) << description.architecture << ": " << rule.name;
    }
    EXPECT_TRUE(roles.contains(LayerTensor::kQuery));
    EXPECT_TRUE(roles.contains(LayerTensor::kDown) || roles.contains(LayerTensor::kExpertDown));
  }
}

}  // namespace
}  // namespace baton::model
