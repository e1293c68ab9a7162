#include "engine/draft_model.h"

#include <gtest/gtest.h>

#include "base/temporary_folder.h"
#include "engine/test_model.h"
#include "model/synth.h"

namespace baton::engine {
namespace {

using Tokens = std::vector<Token>;

SamplerOptions drawn(float temperature, std::uint64_t seed) {
  SamplerOptions sampler;
  sampler.temperature = temperature;
  sampler.seed = seed;
  sampler.repeat_penalty = 1.1F;
  return sampler;
}

Tokens guessed(DraftText& draft, std::uint32_t most) {
  auto tokens = draft.guess(most);
  EXPECT_TRUE(tokens) << tokens.error().to_string();
  return tokens.value_or(Tokens());
}

class Drafts : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    EngineOptions options = test::small_options();
    options.threads = 1;
    engine_ = test::make_engine(test::reference_model(GetParam()), options);
    ASSERT_NE(engine_, nullptr);
  }

  std::unique_ptr<DraftText> draft(const SamplerOptions& sampler, std::span<const Token> text) {
    auto draft = DraftText::create(*engine_, sampler, engine_->shape().vocabulary_size, 512).value();
    EXPECT_TRUE(draft->read(text));
    return draft;
  }

  // What the model itself writes, token by token.
  Tokens written(const SamplerOptions& options, Tokens text, std::uint32_t count) {
    auto sampler = Sampler::create(options).value();
    Sequence sequence = test::reserve(*engine_, 512);
    const std::size_t prompt = text.size();
    auto logits = test::run_span(*engine_, sequence, 0, text, WantedLogits::kLast);
    while (text.size() < prompt + count) {
      text.push_back(sampler.sample(logits, text.size(), text).value());
      const auto at = static_cast<std::uint32_t>(text.size() - 1);
      logits = test::run_span(*engine_, sequence, at, std::span(text).last(1), WantedLogits::kLast);
    }
    return {text.begin() + static_cast<std::ptrdiff_t>(prompt), text.end()};
  }

  std::unique_ptr<Engine> engine_;
};

TEST_P(Drafts, AreWhatTheSameModelWrites) {
  const Tokens prompt = test::some_tokens(*engine_, 40);
  for (const auto& sampler : {SamplerOptions(), drawn(0.8F, 1), drawn(0.8F, 2)}) {
    EXPECT_EQ(guessed(*draft(sampler, prompt), 8), written(sampler, prompt, 8)) << sampler.temperature;
  }
}

// Long enough that windows move while the text grows; the text is never what was guessed.
TEST_P(Drafts, LeaveNoTraceWhereTheyWereWrong) {
  constexpr std::uint32_t kPiece = 11;
  const Tokens text = test::some_tokens(*engine_, 360);
  const SamplerOptions sampler = drawn(0.8F, 3);
  std::uint32_t told = 280;
  const auto wrong = draft(sampler, std::span(text).first(told));
  const auto never_wrong = draft(sampler, std::span(text).first(told));
  while (told + kPiece <= text.size()) {
    EXPECT_EQ(guessed(*wrong, 15).front(), guessed(*never_wrong, 1).front()) << told;
    const auto news = std::span(text).subspan(told, kPiece);
    ASSERT_TRUE(wrong->read(news));
    ASSERT_TRUE(never_wrong->read(news));
    told += kPiece;
  }
  EXPECT_EQ(guessed(*wrong, 6), guessed(*never_wrong, 6));
}

// Guesses that came true are not computed again, and what follows them is the same.
TEST_P(Drafts, GoOnBehindThoseThatWereRight) {
  Tokens text = test::some_tokens(*engine_, 100);
  const SamplerOptions sampler = drawn(0.8F, 4);
  const auto followed = draft(sampler, text);
  for (int round = 0; round < 4; ++round) {
    const Tokens guess = guessed(*followed, 5);
    text.insert(text.end(), guess.begin(), guess.end());
    ASSERT_TRUE(followed->read(guess));
    EXPECT_EQ(followed->unread(), 1u);
  }
  EXPECT_EQ(guessed(*followed, 5), guessed(*draft(sampler, text), 5));
}

INSTANTIATE_TEST_SUITE_P(Reference, Drafts,
                         testing::Values("golden/llama-dense", "tiny/gpt-oss", "tiny/gemma3", "tiny/qwen3moe"),
                         [](const auto& instance) {
                           std::string name = instance.param.substr(instance.param.find('/') + 1);
                           std::erase(name, '-');
                           return name;
                         });

TEST(DraftText, GuessesNothingBehindATokenItDoesNotKnow) {
  const auto engine = test::make_engine(test::reference_model("golden/llama-dense"), test::small_options());
  constexpr std::uint32_t kVocabulary = 20;
  const auto draft = DraftText::create(*engine, drawn(2, 5), kVocabulary, 64).value();
  ASSERT_TRUE(draft->read(Tokens{1, 2, 3}));
  for (const Token token : guessed(*draft, 15)) EXPECT_LT(token, static_cast<Token>(kVocabulary));
  ASSERT_TRUE(draft->read(Tokens{kVocabulary, 4}));
  EXPECT_EQ(guessed(*draft, 4), Tokens());
}

TEST(DraftText, GuessesNoMoreThanItsCellsHold) {
  const auto engine = test::make_engine(test::reference_model("golden/llama-dense"), test::small_options());
  const Tokens text = test::some_tokens(*engine, 256);
  const auto draft = DraftText::create(*engine, {}, engine->shape().vocabulary_size, 256).value();
  ASSERT_TRUE(draft->read(std::span(text).first(254)));
  EXPECT_EQ(guessed(*draft, 15).size(), 3u);
  ASSERT_TRUE(draft->read(std::span(text).last(2)));
  EXPECT_EQ(guessed(*draft, 15).size(), 1u);
  ASSERT_TRUE(draft->read(Tokens{1}));
  EXPECT_EQ(guessed(*draft, 15), Tokens());
}

TEST(DraftText, StopsReadingWhereItIsCancelled) {
  class Canceller : public LayerObserver {
   public:
    Next layer_done(std::uint32_t) override { return Next::kStop; }
  } canceller;
  const auto engine = test::make_engine(test::reference_model("golden/llama-dense"), test::small_options());
  const auto draft = DraftText::create(*engine, {}, engine->shape().vocabulary_size, 256).value();
  const auto read = draft->read(test::some_tokens(*engine, 100), &canceller);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCancelled);
}

std::string path_of(const std::string& name) { return std::string(BATON_SOURCE_DIR) + "/tests/reference/" + name; }

TEST(DraftModel, IsRefusedWhereItKeepsAState) {
  for (const std::string name : {"tiny/granitehybrid", "tiny/lfm2"}) {
    const auto opened = open_draft_model(path_of(name + ".gguf"), *test::reference_model(name));
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(opened.error().to_string().find("keep a state"), std::string::npos) << opened.error().to_string();
  }
}

TEST(DraftModel, IsRefusedWhereItsTokensAreOthers) {
  const auto folder = TemporaryFolder::create("baton-test").value();
  model::SynthOptions options;
  options.embd = 64;
  options.layers = 1;
  options.heads = 4;
  options.kv_heads = 2;
  options.ff = 64;
  options.vocab = 400;
  options.type = model::TensorType::kF16;
  ASSERT_TRUE(model::synthesize(options, folder.path() / "model.gguf"));
  options.layers = 2;
  ASSERT_TRUE(model::synthesize(options, folder.path() / "deeper.gguf"));
  options.vocab = 408;
  ASSERT_TRUE(model::synthesize(options, folder.path() / "wider.gguf"));
  const auto checker = Model::open(folder.path() / "model.gguf").value();
  EXPECT_TRUE(open_draft_model(folder.path() / "deeper.gguf", *checker));
  const auto wider = open_draft_model(folder.path() / "wider.gguf", *checker);
  ASSERT_FALSE(wider);
  EXPECT_EQ(wider.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(wider.error().message.find("only one of the two models has token 400"), std::string::npos)
      << wider.error().message;
  const auto other = open_draft_model(path_of("tiny/gemma3.gguf"), *checker);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::engine
