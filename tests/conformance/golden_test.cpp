// Logits and greedy text against reference files made with another implementation (tests/reference/README.md).
// Where a folder ../shared/golden lies beside the checkout, every model in it is run too.
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "base/file.h"
#include "engine/test_model.h"

namespace baton::engine {
namespace {

namespace fs = std::filesystem;

constexpr double kDefaultTolerance = 1e-5;  // text-llama states none
// Logits of one position differ by about the square root of the tolerance; below this a tie may fall either way.
constexpr double kTieMargin = 0.05;

std::string read_file(const fs::path& path) {
  auto text = read_text_file(path);
  EXPECT_TRUE(text.has_value()) << text.error().to_string();
  return text.value_or("");
}

// The numbers behind `"key":`, one or a list: all that these files need of JSON.
std::vector<double> numbers(const std::string& json, const std::string& key) {
  std::vector<double> found;
  std::size_t at = json.find('"' + key + '"');
  if (at == std::string::npos) return found;
  at = json.find_first_not_of(" :", at + key.size() + 2);
  const bool list = json[at] == '[';
  if (list) ++at;
  while (at < json.size() && json[at] != ']' && json[at] != '}') {
    double value = 0;
    const auto [end, error] = std::from_chars(json.data() + at, json.data() + json.size(), value);
    if (error != std::errc()) break;
    found.push_back(value);
    at = json.find_first_not_of(", \n", static_cast<std::size_t>(end - json.data()));
    if (!list) break;
  }
  return found;
}

struct Golden {
  std::shared_ptr<const Model> model;
  std::vector<Token> prompt;
  std::vector<Token> greedy;
  std::vector<double> margin;
  double tolerance = kDefaultTolerance;
  std::vector<float> logits;  // [position][vocabulary]
};

Golden load(const fs::path& base) {
  Golden golden;
  auto model = Model::open(base.string() + ".gguf");
  EXPECT_TRUE(model.has_value()) << model.error().to_string();
  if (!model) return golden;
  golden.model = *model;
  const std::string json = read_file(base.string() + ".json");
  for (const double token : numbers(json, "prompt")) golden.prompt.push_back(static_cast<Token>(token));
  for (const double token : numbers(json, "greedy")) golden.greedy.push_back(static_cast<Token>(token));
  golden.margin = numbers(json, "margin");
  const auto tolerance = numbers(json, "tolerance");
  if (!tolerance.empty()) golden.tolerance = tolerance.front();
  const std::string raw = read_file(base.string() + ".f32");
  golden.logits.resize(raw.size() / sizeof(float));
  std::memcpy(golden.logits.data(), raw.data(), golden.logits.size() * sizeof(float));
  EXPECT_FALSE(golden.prompt.empty());
  EXPECT_EQ(golden.greedy.size(), golden.margin.size());
  EXPECT_EQ(golden.logits.size(), golden.prompt.size() * golden.model->shape().vocabulary_size);
  return golden;
}

fs::path tiny_folder() { return fs::path(BATON_SOURCE_DIR) / "tests/reference/tiny"; }
fs::path reference_folder() { return fs::path(BATON_SOURCE_DIR) / "tests/reference/golden"; }
fs::path shared_folder() { return fs::path(BATON_SOURCE_DIR) / "../shared/golden"; }

// By name, so that a model in both folders runs once.
std::map<std::string, fs::path> golden_files() {
  std::map<std::string, fs::path> found;
  for (const fs::path& folder : {reference_folder(), tiny_folder(), shared_folder()}) {
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(folder, missing)) {
      if (entry.path().extension() != ".gguf") continue;
      const std::string name = entry.path().stem().string();
      found.try_emplace(name, folder / name);
    }
  }
  return found;
}

class GoldenModel : public testing::TestWithParam<std::pair<const std::string, fs::path>> {
 protected:
  void SetUp() override { golden_ = load(GetParam().second); }

  std::unique_ptr<Engine> engine(unsigned threads = 2) const {
    EngineOptions options;
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

INSTANTIATE_TEST_SUITE_P(Files, GoldenModel, testing::ValuesIn(golden_files()), [](const auto& test) {
  std::string name = test.param.first;
  std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
});

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
    EngineOptions options;
    options.threads = 2;
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
  for (const fs::path& folder : {reference_folder(), tiny_folder()}) {
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
