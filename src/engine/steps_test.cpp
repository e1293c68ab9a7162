// Rows kAsSteps get the bits of passes of their own, whatever is computed beside them.
#include <gtest/gtest.h>

#include "engine/test_model.h"

namespace baton::engine {
namespace {

class Steps : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    engine_ = test::make_engine(test::reference_model(GetParam()), test::small_options());
    ASSERT_NE(engine_, nullptr);
    tokens_ = test::some_tokens(*engine_, 700);
  }

  Sequence filled(std::uint32_t length) {
    Sequence sequence = test::reserve(*engine_, length + 32);
    test::run_chunks(*engine_, sequence, std::span(tokens_).first(length), 256);
    return sequence;
  }

  std::vector<float> run(std::span<const BatchSpan> spans, std::span<const Token> tokens) {
    std::vector<float> logits(std::size_t{logit_rows(spans)} * engine_->shape().vocabulary_size);
    const Batch batch{.layers = {0, engine_->shape().layer_count}, .spans = spans, .tokens = tokens, .hidden = {}};
    const auto done = engine_->forward(batch, {.hidden = {}, .logits = logits});
    EXPECT_TRUE(done.has_value()) << done.error().to_string();
    return logits;
  }

  BatchSpan span(Sequence& sequence, std::uint32_t first, std::uint32_t count) const {
    return {.sequence = &sequence,
            .first_position = first,
            .token_count = count,
            .logits = WantedLogits::kAll,
            .rows = SpanRows::kAsSteps};
  }

  std::vector<float> one_by_one(Sequence& sequence, std::uint32_t first, std::uint32_t count) {
    std::vector<float> all;
    for (std::uint32_t position = first; position < first + count; ++position) {
      const BatchSpan step = span(sequence, position, 1);
      const auto logits = run(std::span(&step, 1), std::span(tokens_).subspan(position, 1));
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }

  std::unique_ptr<Engine> engine_;
  std::vector<Token> tokens_;
};

// Over 16 rows, where prefill goes another way, and on both sides of 512 cells, where ggml's attention does.
TEST_P(Steps, OfOneSequenceAtOnceGiveTheBitsOfOneByOne) {
  ASSERT_TRUE(engine_->steps_exactly());
  for (const std::uint32_t first : {5U, 240U, 505U}) {
    Sequence sequence = filled(first);
    const auto expected = one_by_one(sequence, first, 20);
    const BatchSpan all = span(sequence, first, 20);
    EXPECT_TRUE(run(std::span(&all, 1), std::span(tokens_).subspan(first, 20)) == expected) << "from " << first;
  }
}

TEST_P(Steps, OfSeveralSequencesAtOnceGiveTheBitsOfEachAlone) {
  const std::vector<std::uint32_t> lengths = {3, 300, 40, 520, 255, 1, 77, 100};
  std::vector<Sequence> sequences;
  for (const std::uint32_t length : lengths) sequences.push_back(filled(length));
  std::vector<float> expected;
  std::vector<BatchSpan> spans;
  std::vector<Token> tokens;
  for (std::size_t index = 0; index < lengths.size(); ++index) {
    const auto alone = one_by_one(sequences[index], lengths[index], 1);
    expected.insert(expected.end(), alone.begin(), alone.end());
    spans.push_back(span(sequences[index], lengths[index], 1));
    tokens.push_back(tokens_[lengths[index]]);
  }
  EXPECT_TRUE(run(spans, tokens) == expected);
}

// Tokens that were wrong leave no trace: the right ones in their place get what they would have got.
TEST_P(Steps, CanBeTakenBack) {
  constexpr std::uint32_t kFirst = 250;
  Sequence sequence = filled(kFirst);
  const auto expected = one_by_one(sequence, kFirst, 4);
  Sequence other = filled(kFirst);
  const std::vector<Token> wrong(12, tokens_[0]);
  ASSERT_GE(engine_->tokens_to_take_back(), wrong.size());
  const BatchSpan guesses = span(other, kFirst, static_cast<std::uint32_t>(wrong.size()));
  run(std::span(&guesses, 1), wrong);
  EXPECT_TRUE(one_by_one(other, kFirst, 4) == expected);
}

INSTANTIATE_TEST_SUITE_P(Reference, Steps,
                         testing::Values("golden/llama-dense", "tiny/gpt-oss", "tiny/gemma3", "tiny/qwen3moe"),
                         [](const auto& instance) {
                           std::string name = instance.param.substr(instance.param.find('/') + 1);
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace baton::engine
