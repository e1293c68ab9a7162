#include "engine/pooling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/test_model.h"

namespace baton::engine {
namespace {

constexpr std::uint32_t kPooledTokens = 20;

// The rows of a text's tokens, from `first` on.
std::vector<float> rows(Engine& engine, Sequence& sequence, std::span<const Token> tokens, std::uint32_t first,
                        HeadResult head) {
  const BatchSpan span{.sequence = &sequence,
                       .first_position = first,
                       .token_count = static_cast<std::uint32_t>(tokens.size()),
                       .logits = WantedLogits::kAll};
  std::vector<float> made(tokens.size() * head_width(engine.shape(), head));
  const auto done = engine.forward(
      {.layers = {0, engine.shape().layer_count}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}, .head = head},
      {.hidden = {}, .logits = made});
  EXPECT_TRUE(done) << done.error().to_string();
  return made;
}

// What the output matrix makes of the normed rows are the logits.
TEST(Pooling, RowsAreThoseThatTheOutputMatrixSees) {
  const auto model = test::reference_model("golden/text-llama");
  const auto engine = test::make_engine(model, test::small_options());
  const auto tokens = test::some_tokens(*engine, kPooledTokens);
  Sequence sequence = test::reserve(*engine, kPooledTokens);
  const auto normed = rows(*engine, sequence, tokens, 0, HeadResult::kNormed);
  const auto logits = rows(*engine, sequence, tokens, 0, HeadResult::kLogits);

  const model::TensorInfo& matrix = model->hyperparameters().output_matrix();
  ASSERT_EQ(matrix.type, model::TensorType::kF16);
  const ByteSpan bytes = model->file().tensor_bytes(matrix);
  std::vector<_Float16> weights(matrix.elements());
  std::memcpy(weights.data(), bytes.data(), bytes.size());
  const std::size_t width = engine->shape().embedding_width;
  std::vector<float> expected;
  for (std::uint32_t token = 0; token < kPooledTokens; ++token) {
    for (std::size_t row = 0; row < engine->shape().vocabulary_size; ++row) {
      double sum = 0;
      for (std::size_t index = 0; index < width; ++index) {
        sum += static_cast<double>(weights[row * width + index]) * static_cast<double>(normed[token * width + index]);
      }
      expected.push_back(static_cast<float>(sum));
    }
  }
  EXPECT_LT(test::nmse(logits, expected), 1e-3);
}

TEST(Pooling, RefusesABufferOfTheOtherWidth) {
  const auto engine = test::make_engine(test::reference_model("golden/llama-dense"), test::small_options());
  Sequence sequence = test::reserve(*engine, 1);
  const BatchSpan span{.sequence = &sequence, .token_count = 1, .logits = WantedLogits::kLast};
  const std::vector<Token> tokens{1};
  std::vector<float> made(engine->shape().vocabulary_size);
  const Batch batch{.layers = {0, engine->shape().layer_count},
                    .spans = {&span, 1},
                    .tokens = tokens,
                    .hidden = {},
                    .head = HeadResult::kNormed};
  EXPECT_EQ(engine->forward(batch, {.hidden = {}, .logits = made}).error().code, ErrorCode::kInvalidArgument);
}

TEST(Pooling, IsOfTheLastTokenWhereTheFileIsSilent) {
  EXPECT_EQ(read_pooling(*test::reference_model("golden/llama-dense")), Pooling::kLast);
}

TEST(Pooling, NormalisesToLengthOne) {
  std::vector<float> vector{3, 0, -4};
  normalise(vector);
  EXPECT_FLOAT_EQ(vector[0], 0.6F);
  EXPECT_FLOAT_EQ(vector[2], -0.8F);
  std::vector<float> nothing(3);
  normalise(nothing);
  EXPECT_EQ(nothing, std::vector<float>(3));
}

TEST(RankHead, IsASoftmaxOverItsLabels) {
  const RankHead head({1, 2, /* no */ 0, -1}, {0.5F, 0});
  const std::vector<float> row{0.25F, 1};
  EXPECT_NEAR(head.score(row), 1 / (1 + std::exp(-1.0 - 2.75)), 1e-6);
  EXPECT_NEAR(RankHead({1000, 0}, {0, 0}).score(std::vector<float>{1}), 1, 1e-6);
}

TEST(RankHead, IsNotInEveryModel) {
  EXPECT_EQ(RankHead::read(*test::reference_model("golden/llama-dense")).error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace baton::engine
