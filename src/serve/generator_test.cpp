#include "serve/generator.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "model/vocabulary.h"
#include "serve/pooled_model_fixture.h"

namespace baton::serve {
namespace {

class Ends : public AnswerSink {
 public:
  Ends(std::vector<Result<AnswerEnd>>& all, std::size_t wanted, net::EventLoop& loop)
      : all_(all), wanted_(wanted), loop_(loop) {}
  void on_begun() override {}
  void on_piece(Piece) override {}
  void on_end(Result<AnswerEnd> end) override {
    all_.push_back(std::move(end));
    if (all_.size() == wanted_) loop_.stop();
  }

 private:
  std::vector<Result<AnswerEnd>>& all_;
  const std::size_t wanted_;
  net::EventLoop& loop_;
};

// One answer at a time, and nobody waits for as long as an answer takes.
class GeneratorOfOne : public test::PooledModelTest {
 protected:
  static constexpr std::size_t kAnswers = 3;
  enum class Pace { kNative, kSlow };

  // How answers end whose groups are these. `look` is called every few milliseconds meanwhile.
  std::vector<Result<AnswerEnd>> run(const std::array<std::uint64_t, kAnswers>& groups, Pace pace = Pace::kSlow,
                                     Duration waiting_time = std::chrono::milliseconds(20),
                                     const std::function<void(Generator&)>& look = {}) {
    // A step takes 2 ms on any machine: an answer a second, longer than anybody waits for it.
    constexpr engine::EmulatedDevice kSlow{.teraflops = 1, .gigabytes_per_second = 0.9};
    node::PooledModel& model =
        pace == Pace::kSlow ? pooled_model(Weights::kLoaded, kSlow) : pooled_model(Weights::kLoaded);
    const auto vocabulary = text::Vocabulary::create(model::read_vocabulary(model_->file()).value()).value();
    Metrics metrics;
    std::vector<Result<AnswerEnd>> ends;
    Generator generator(*loop_, model, vocabulary, {.running = 1, .waiting = 8, .waiting_time = waiting_time}, metrics,
                        book_);
    for (std::size_t index = 0; index < kAnswers; ++index) {
      AnswerRequest asked;
      asked.client = "somebody";
      asked.group = groups[index];
      asked.model = "model";
      asked.endpoint = "/v1/completions";
      asked.request.prompt = {300, 301, 302};
      asked.request.max_new_tokens = 480;
      asked.request.chunk_tokens = node::test::kChunk;
      asked.request.plan = plan::Plan::single(node::test::kLayers);
      generator.start(index, std::move(asked), std::make_shared<Ends>(ends, kAnswers, *loop_));
    }
    net::Timer looking(*loop_);
    std::function<void()> look_again = [&] {
      look(generator);
      looking.start(std::chrono::milliseconds(2), look_again);
    };
    if (look) look_again();
    run_loop();
    return ends;
  }

  AnswerBook book_;
};

TEST_F(GeneratorOfOne, GivesUpWhatHasWaitedForTooLong) {
  const auto ends = run({1, 2, 3});
  ASSERT_EQ(ends.size(), kAnswers);
  EXPECT_EQ(ends[0].error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(ends[1].error().code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(ends[2]);
}

TEST_F(GeneratorOfOne, WritesDownHowAnswersEnded) {
  ASSERT_EQ(run({1, 2, 3}).size(), kAnswers);
  ASSERT_EQ(book_.ended().size(), kAnswers);
  for (const AnswerRecord& record : book_.ended()) {
    EXPECT_EQ(record.endpoint, "/v1/completions");
    EXPECT_EQ(record.prompt_tokens, 3);
    EXPECT_GT(record.queue_s, record.state == AnswerState::kFailed ? 0.015 : 0);
  }
  EXPECT_EQ(book_.ended()[0].state, AnswerState::kFailed);
  EXPECT_EQ(book_.ended()[1].error->code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(book_.ended()[1].plan.empty());
  EXPECT_EQ(book_.ended()[2].state, AnswerState::kEnded);
  EXPECT_EQ(book_.ended()[2].new_tokens, 480);
  EXPECT_EQ(book_.ended()[2].shape, "single");
  EXPECT_GT(book_.ended()[2].total_s, *book_.ended()[2].first_token_s);
}

TEST_F(GeneratorOfOne, ShowsWhatRunsAndWaitsAndCancelsBoth) {
  std::vector<std::uint32_t> tokens;
  bool cancelled = false;
  const auto look = [&](Generator& generator) {
    const auto answers = generator.answers();
    if (cancelled || answers.size() != kAnswers || answers.front().state != AnswerState::kDecoding) return;
    EXPECT_EQ(answers[0].id, 0);
    EXPECT_TRUE(answers[0].first_token_s);
    EXPECT_EQ(answers[1].state, AnswerState::kQueued);
    EXPECT_EQ(answers[2].state, AnswerState::kQueued);
    if (tokens.empty() || answers[0].new_tokens > tokens.back()) tokens.push_back(answers[0].new_tokens);
    if (tokens.size() < 3) return;
    cancelled = true;
    EXPECT_TRUE(generator.cancel(0, "enough"));
    EXPECT_TRUE(generator.cancel(2, "enough"));
    EXPECT_FALSE(generator.cancel(0, "enough"));
    EXPECT_FALSE(generator.cancel(17, "enough"));
    ASSERT_EQ(generator.answers().size(), 1);
    EXPECT_EQ(generator.answers().front().id, 1);
  };
  const auto ends = run({1, 2, 3}, Pace::kSlow, std::chrono::minutes(1), look);
  ASSERT_EQ(ends.size(), kAnswers);
  EXPECT_TRUE(cancelled);
  EXPECT_EQ(ends[0].error().code, ErrorCode::kCancelled);
  EXPECT_EQ(ends[1].error().message, "enough");
  EXPECT_TRUE(ends[2]);
  ASSERT_EQ(book_.ended().size(), kAnswers);
  EXPECT_EQ(book_.ended()[0].state, AnswerState::kCancelled);
  EXPECT_LT(book_.ended()[0].new_tokens, 480);
  EXPECT_EQ(book_.ended()[1].id, 2);
  EXPECT_EQ(book_.ended()[2].id, 1);
}

TEST_F(GeneratorOfOne, LetsAnswersToOneRequestWaitForEachOther) {
  const auto ends = run({1, 1, 1}, Pace::kNative);
  ASSERT_EQ(ends.size(), kAnswers);
  for (const auto& end : ends) EXPECT_TRUE(end) << end.error().to_string();
}

// Their clients may go away as soon as they have asked, again and again.
TEST_F(GeneratorOfOne, KeepsNoPlaceForWhoeverWantedTheModelAndHasGone) {
  constexpr std::size_t kPlaces = 4;
  node::PooledModel& model = pooled_model(Weights::kNotLoaded);
  const auto vocabulary = text::Vocabulary::create(model::read_vocabulary(model_->file()).value()).value();
  Metrics metrics;
  Generator generator(*loop_, model, vocabulary,
                      {.running = 1, .waiting = kPlaces - 1, .waiting_time = std::chrono::minutes(1)}, metrics, book_);
  std::vector<Result<void>> heard;
  const auto hear = [&](Result<void> loaded) {
    heard.push_back(std::move(loaded));
    if (heard.size() == kPlaces + 1) loop_->stop();
  };
  for (std::uint64_t gone = 0; gone < 3 * kPlaces; ++gone) {
    generator.load(gone, std::nullopt, hear);
    generator.cancel_load(gone);
  }
  for (std::uint64_t id = 100; id < 100 + kPlaces; ++id) generator.load(id, std::nullopt, hear);
  EXPECT_TRUE(heard.empty());
  generator.load(200, std::nullopt, hear);
  ASSERT_EQ(heard.size(), 1);
  EXPECT_EQ(heard.front().error().code, ErrorCode::kNoCapacity);
  run_loop();
  ASSERT_EQ(heard.size(), kPlaces + 1);
  for (std::size_t index = 1; index < heard.size(); ++index) EXPECT_TRUE(heard[index]);
}

}  // namespace
}  // namespace baton::serve
