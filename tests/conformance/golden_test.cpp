// Logits and greedy text against reference files made with another implementation (tests/reference/README.md).
// Where a folder ../shared/golden lies beside the checkout, every model in it is run too.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "golden_model.h"

namespace baton::engine {
namespace {

namespace fs = std::filesystem;
using test::Golden;
using test::kTieMargin;

class GoldenModel : public testing::TestWithParam<std::pair<const std::string, fs::path>> {
 protected:
  void SetUp() override { golden_ = test::load(GetParam().second); }

  std::unique_ptr<Engine> engine(unsigned threads = 2) const {
    EngineOptions options = test::small_options();
    options.threads = threads;
    options.context_tokens = 512;
    return test::make_engine(golden_.model, options);
  }
  void expect_logits_in_chunks_of(std::uint32_t chunk, unsigned threads) const {
    const auto owned = engine(threads);
    Sequence sequence = test::reserve(*owned, 256);
    const auto logits = test::run_chunks(*owned, sequence, golden_.prompt, chunk);
    EXPECT_LT(test::nmse(logits, golden_.logits), golden_.tolerance) << "in chunks of " << chunk;
  }

  Golden golden_;
};

INSTANTIATE_TEST_SUITE_P(Files, GoldenModel, testing::ValuesIn(test::golden_files()),
                         [](const auto& test) { return test::test_name(test.param.first); });

TEST_P(GoldenModel, AgreesWhenPrefilledAtOnce) { expect_logits_in_chunks_of(512, 2); }
TEST_P(GoldenModel, AgreesInChunksOf16) { expect_logits_in_chunks_of(16, 1); }
TEST_P(GoldenModel, AgreesTokenByToken) { expect_logits_in_chunks_of(1, 2); }

// A plan may cut the model anywhere: each layer in an engine of its own, which holds nothing else.
TEST_P(GoldenModel, GivesTheSameBitsWithEachLayerInAnEngineOfItsOwn) {
  const auto whole = engine();
  Sequence reference = test::reserve(*whole, 256);
  const auto expected = test::run_span(*whole, reference, 0, golden_.prompt);
  const auto count = static_cast<std::uint32_t>(golden_.prompt.size());
  const std::uint32_t layers = whole->shape().layer_count;
  std::vector<float> hidden;
  std::vector<float> logits(expected.size());
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    EngineOptions options = test::small_options();
    options.context_tokens = 512;
    options.layers = LayerRange{layer, layer + 1};
    const auto alone = test::make_engine(golden_.model, options);
    ASSERT_NE(alone, nullptr);
    Sequence sequence = test::reserve(*alone, 256);
    const bool last = layer + 1 == layers;
    const BatchSpan span{.sequence = &sequence,
                         .first_position = 0,
                         .token_count = count,
                         .logits = last ? WantedLogits::kAll : WantedLogits::kNone};
    std::vector<float> next(last ? 0 : std::size_t{count} * whole->shape().embedding_width);
    const Batch batch{.layers = *options.layers,
                      .spans = std::span(&span, 1),
                      .tokens = layer == 0 ? std::span<const Token>(golden_.prompt) : std::span<const Token>(),
                      .hidden = hidden};
    const auto done = alone->forward(batch, {.hidden = next, .logits = last ? std::span(logits) : std::span<float>()});
    ASSERT_TRUE(done.has_value()) << done.error().to_string();
    hidden = std::move(next);
  }
  EXPECT_EQ(logits, expected);
}

TEST_P(GoldenModel, ContinuesGreedilyWithTheSameTokens) {
  const auto owned = engine();
  Sequence sequence = test::reserve(*owned, 256);
  auto logits = test::run_span(*owned, sequence, 0, golden_.prompt, WantedLogits::kLast);
  auto position = static_cast<std::uint32_t>(golden_.prompt.size());
  for (std::size_t step = 0; step < golden_.greedy.size(); ++step) {
    const Token expected = golden_.greedy[step];
    const auto best = static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
    if (golden_.margin[step] >= kTieMargin) {
      EXPECT_EQ(best, expected) << "step " << step << ", margin " << golden_.margin[step];
    } else {
      EXPECT_GT(logits[static_cast<std::size_t>(expected)], logits[static_cast<std::size_t>(best)] - kTieMargin)
          << step;
    }
    // Go on from the reference's token, so that one tie does not end the comparison.
    logits = test::run_span(*owned, sequence, position++, std::span(&expected, 1), WantedLogits::kLast);
  }
}

TEST(Golden, HasAFileForEveryArchitectureInAFreshClone) {
  std::set<std::string, std::less<>> covered;
  for (const fs::path& folder : {test::reference_folder(), test::tiny_folder()}) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".gguf") continue;
      const auto model = Model::open(entry.path());
      ASSERT_TRUE(model.has_value()) << model.error().to_string();
      covered.emplace((*model)->description().architecture);
    }
  }
  for (const model::Description& description : model::all_descriptions()) {
    EXPECT_TRUE(covered.contains(description.architecture)) << description.architecture;
  }
}

}  // namespace
}  // namespace baton::engine
