#include "engine/batch_scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "engine/test_model.h"
#include "plan/time_slice.h"

namespace baton::engine {
namespace {

constexpr std::uint32_t kChunkTokens = 64;
constexpr auto kDeadline = std::chrono::seconds(30);

// The owner's thread: the test's own, which runs what was posted.
class Inbox {
 public:
  void post(std::move_only_function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    arrived_.notify_one();
  }
  // Runs one after the other until that is so; false at the deadline.
  template <typename Condition>
  bool run_until(Condition&& condition) {
    while (!condition()) {
      std::unique_lock lock(mutex_);
      if (!arrived_.wait_for(lock, kDeadline, [&] { return !tasks_.empty(); })) return false;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::move_only_function<void()>> tasks_;
};

class Scheduling : public testing::Test {
 protected:
  void SetUp() override { open("golden/llama-dense"); }
  void TearDown() override {
    release();
    scheduler_->close();
    executor_.reset();
  }

  void open(const std::string& model) {
    if (scheduler_) scheduler_->close();
    EngineOptions options = test::small_options();
    options.max_chunk_tokens = kChunkTokens;
    executor_ = std::make_unique<Executor>(test::make_engine(test::reference_model(model), options), 16);
    scheduler_ = BatchScheduler::create(
        *executor_, [this](auto task) { inbox_.post(std::move(task)); }, [this] { return time_.load(); });
  }
  Engine& engine() { return executor_->engine(); }
  std::uint32_t layers() { return engine().shape().layer_count; }

  class Pass : public ScheduledPass {
   public:
    explicit Pass(std::vector<std::string>& log, std::string name) : log_(log), name_(std::move(name)) {}
    bool cancelled() const override { return cancel; }
    void on_begun() override { began = true; }
    void on_layer_done(std::uint32_t layer) override {
      layers_done.push_back(layer);
      if (after_layer) after_layer(layer);
    }
    void on_done(const Result<void>& done, const std::optional<EmulationReport>&) override {
      log_.push_back(name_);
      row.assign(logits.begin(), logits.end());
      result = done;
      if (then) then();
    }

    std::atomic<bool> cancel = false;
    std::atomic<bool> began = false;
    std::vector<std::uint32_t> layers_done;
    std::vector<float> row;
    std::optional<Result<void>> result;
    std::function<void(std::uint32_t)> after_layer;
    std::function<void()> then;

   private:
    std::vector<std::string>& log_;
    const std::string name_;
  };

  std::shared_ptr<Pass> make(ScheduledPass::Kind kind, Sequence& sequence, std::uint32_t position,
                             std::span<const Token> tokens, const std::string& name) {
    auto pass = std::make_shared<Pass>(log_, name);
    pass->kind = kind;
    pass->layers = {0, layers()};
    pass->span = {.sequence = &sequence,
                  .first_position = position,
                  .token_count = static_cast<std::uint32_t>(tokens.size()),
                  .logits = WantedLogits::kLast,
                  .rows = kind == ScheduledPass::Kind::kStep ? SpanRows::kAsSteps : SpanRows::kTogether};
    pass->tokens.assign(tokens.begin(), tokens.end());
    return pass;
  }
  std::shared_ptr<Pass> step(Sequence& sequence, std::uint32_t position, Token token, const std::string& name) {
    return make(ScheduledPass::Kind::kStep, sequence, position, {&token, 1}, name);
  }
  std::shared_ptr<Pass> chunk(Sequence& sequence, std::uint32_t position, std::span<const Token> tokens,
                              const std::string& name) {
    return make(ScheduledPass::Kind::kChunk, sequence, position, tokens, name);
  }
  static bool ended(const std::shared_ptr<Pass>& pass) { return pass->result.has_value(); }

  // The device is busy until release().
  void hold() {
    ASSERT_TRUE(executor_->submit([this](Engine&, const std::stop_token&) { released_.wait(false); }));
  }
  void release() {
    released_ = true;
    released_.notify_all();
  }

  std::atomic<bool> released_ = false;
  std::atomic<TimePoint> time_ = TimePoint{};
  Inbox inbox_;
  std::vector<std::string> log_;
  std::unique_ptr<Executor> executor_;
  std::shared_ptr<BatchScheduler> scheduler_;
};

class SchedulingOf : public Scheduling, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { open(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Models, SchedulingOf,
                         testing::Values("golden/llama-dense", "tiny/gemma3", "tiny/gpt-oss", "tiny/lfm2",
                                         "tiny/deepseek2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '/'; });
                           return name;
                         });

// Four streams that step together, while a fifth reads its prompt in pieces: all have the bits that they have alone.
TEST_P(SchedulingOf, GivesEveryStreamTheBitsThatItHasAlone) {
  constexpr std::uint32_t kSteps = 6;
  constexpr std::size_t kStreams = 4;
  const auto tokens = test::some_tokens(engine(), 200);
  const auto prompt_of = [&](std::size_t stream) { return std::span(tokens).subspan(stream * 7, 20 + stream); };

  const auto alone = test::make_engine(test::reference_model(GetParam()), engine().options());
  std::vector<std::vector<std::vector<float>>> expected(kStreams);
  for (std::size_t stream = 0; stream < kStreams; ++stream) {
    Sequence sequence = test::reserve(*alone, 100);
    const auto prompt = prompt_of(stream);
    test::run_span(*alone, sequence, 0, prompt);
    for (std::uint32_t index = 0; index < kSteps; ++index) {
      const auto at = static_cast<std::uint32_t>(prompt.size()) + index;
      expected[stream].push_back(test::run_span(*alone, sequence, at, std::span(tokens).subspan(at, 1)));
    }
  }
  Sequence whole = test::reserve(*alone, 200);
  test::run_span(*alone, whole, 0, std::span(tokens).first(kChunkTokens));
  const auto expected_long = test::run_span(*alone, whole, kChunkTokens,
                                            std::span(tokens).subspan(kChunkTokens, kChunkTokens), WantedLogits::kLast);

  std::vector<Sequence> sequences;
  for (std::size_t stream = 0; stream < kStreams; ++stream) {
    sequences.push_back(test::reserve(engine(), 100));
    const auto read = chunk(sequences.back(), 0, prompt_of(stream), "prompt");
    scheduler_->submit(read);
    ASSERT_TRUE(inbox_.run_until([&] { return ended(read); }));
  }
  Sequence reader = test::reserve(engine(), 200);
  std::vector<std::vector<std::vector<float>>> made(kStreams);
  std::size_t done = 0;
  const std::function<void(std::size_t, std::uint32_t)> go_on = [&](std::size_t stream, std::uint32_t index) {
    const auto at = static_cast<std::uint32_t>(prompt_of(stream).size()) + index;
    const auto next = step(sequences[stream], at, tokens[at], "step");
    next->then = [&, stream, index, pass = next.get()] {
      ASSERT_TRUE(*pass->result) << pass->result->error().to_string();
      made[stream].push_back(pass->row);
      if (index + 1 < kSteps) return go_on(stream, index + 1);
      ++done;
    };
    scheduler_->submit(next);
  };
  for (std::size_t stream = 0; stream < kStreams; ++stream) go_on(stream, 0);
  const auto first = chunk(reader, 0, std::span(tokens).first(kChunkTokens), "long");
  const auto second = chunk(reader, kChunkTokens, std::span(tokens).subspan(kChunkTokens, kChunkTokens), "long");
  scheduler_->submit(first);
  scheduler_->submit(second);
  ASSERT_TRUE(inbox_.run_until([&] { return done == kStreams && ended(second); }));
  EXPECT_EQ(made, expected);
  EXPECT_EQ(second->row, expected_long);
  std::vector<std::uint32_t> every_layer(layers());
  std::iota(every_layer.begin(), every_layer.end(), 0U);
  EXPECT_EQ(second->layers_done, every_layer);
}

TEST_F(Scheduling, PutsStepsThatAreReadyIntoOneBatch) {
  std::vector<Sequence> sequences;
  for (int stream = 0; stream < 5; ++stream) sequences.push_back(test::reserve(engine(), 20));
  hold();
  std::vector<std::shared_ptr<Pass>> passes;
  for (Sequence& sequence : sequences) {
    passes.push_back(step(sequence, 0, 7, "step"));
    scheduler_->submit(passes.back());
  }
  // The first found nothing under way; the other four came while it waited.
  EXPECT_EQ(scheduler_->load().waiting_steps, 4U);
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return std::ranges::all_of(passes, ended); }));
  EXPECT_EQ(scheduler_->load().step_batches, 2U);
  EXPECT_EQ(scheduler_->load().steps, 5U);
}

TEST_F(Scheduling, KeepsStreamsInOneBatchOnceTheyAreInOne) {
  constexpr std::uint32_t kSteps = 5;
  std::vector<Sequence> sequences;
  for (int stream = 0; stream < 3; ++stream) sequences.push_back(test::reserve(engine(), 20));
  std::size_t done = 0;
  const std::function<void(Sequence&, std::uint32_t)> go_on = [&](Sequence& sequence, std::uint32_t at) {
    const auto next = step(sequence, at, 7, "step");
    next->then = [&, at] { at + 1 < kSteps ? go_on(sequence, at + 1) : void(++done); };
    scheduler_->submit(next);
  };
  hold();
  for (Sequence& sequence : sequences) go_on(sequence, 0);
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return done == sequences.size(); }));
  // The first stream's first step went alone; two and then three at a time followed.
  EXPECT_LE(scheduler_->load().step_batches, 2 * kSteps);
  EXPECT_EQ(scheduler_->load().steps, 3 * kSteps);
}

TEST_F(Scheduling, LetsStepsPassBetweenTheLayersOfAChunk) {
  const auto tokens = test::some_tokens(engine(), kChunkTokens);
  Sequence stream = test::reserve(engine(), 40);
  Sequence reader = test::reserve(engine(), kChunkTokens);
  const auto running = step(stream, 0, 7, "step 0");
  const auto prompt = chunk(reader, 0, tokens, "prompt");
  // Each layer takes longer than all the time a piece may have.
  prompt->after_layer = [&](std::uint32_t) { time_ = time_.load() + 2 * plan::kMostPiece; };
  std::uint32_t steps = 1;
  const std::function<void()> go_on = [&] {
    if (ended(prompt)) return;
    const auto next = step(stream, steps, 7, "step " + std::to_string(steps));
    ++steps;
    next->then = go_on;
    scheduler_->submit(next);
  };
  running->then = go_on;
  hold();
  scheduler_->submit(running);
  scheduler_->submit(prompt);
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(prompt); }));
  EXPECT_TRUE(*prompt->result);
  EXPECT_EQ(scheduler_->load().chunk_pieces, layers());
  EXPECT_GE(steps, layers()) << "a step for each piece";
  ASSERT_TRUE(inbox_.run_until([&] { return scheduler_->load().steps == log_.size() - 1; }));
}

TEST_F(Scheduling, ReadsFirstThePromptThatIsDueFirst) {
  const auto tokens = test::some_tokens(engine(), kChunkTokens);
  std::vector<Sequence> sequences;
  for (int index = 0; index < 5; ++index) sequences.push_back(test::reserve(engine(), kChunkTokens));
  using std::chrono::seconds;
  const auto ask = [&](Sequence& sequence, Duration came, std::uint32_t prompt_tokens, const std::string& name) {
    const auto pass = chunk(sequence, 0, tokens, name);
    pass->prompt_came = TimePoint{} + came;
    pass->prompt_tokens = prompt_tokens;
    // It takes a second.
    pass->after_layer = [&](std::uint32_t) { time_ = time_.load() + Duration(seconds(1)) / layers(); };
    scheduler_->submit(pass);
    return pass;
  };
  const auto measured = ask(sequences[0], seconds(0), kChunkTokens, "measured");
  ASSERT_TRUE(inbox_.run_until([&] { return ended(measured); }));
  hold();
  scheduler_->submit(step(sequences[0], 0, 7, "step"));
  ask(sequences[1], seconds(0), kChunkTokens, "begun");
  const auto last = ask(sequences[2], seconds(5), kChunkTokens, "short and late");
  ask(sequences[3], seconds(0), 4 * kChunkTokens, "long");
  ask(sequences[4], seconds(2), kChunkTokens, "short");
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(last); }));
  EXPECT_EQ(log_, (std::vector<std::string>{"measured", "step", "begun", "short", "long", "short and late"}));
}

TEST_F(Scheduling, WantsSmallerChunksWhileSomebodySteps) {
  const auto tokens = test::some_tokens(engine(), kChunkTokens);
  Sequence stream = test::reserve(engine(), 20);
  Sequence reader = test::reserve(engine(), kChunkTokens);
  const auto prompt = chunk(reader, 0, tokens, "prompt");
  prompt->after_layer = [&](std::uint32_t) { time_ = time_.load() + plan::kMostPiece / 4; };
  scheduler_->submit(prompt);
  ASSERT_TRUE(inbox_.run_until([&] { return ended(prompt); }));
  EXPECT_EQ(scheduler_->chunk_now(2048), 2048U) << "nobody waits";
  const auto running = step(stream, 0, 7, "step");
  scheduler_->submit(running);
  // Four times as many tokens fit as were read.
  EXPECT_EQ(scheduler_->chunk_now(2048), 4 * kChunkTokens);
  EXPECT_EQ(scheduler_->chunk_now(4 * kChunkTokens), 4 * kChunkTokens);
  EXPECT_EQ(scheduler_->chunk_now(4 * kChunkTokens + 2), 2 * kChunkTokens + 1) << "no small rest";
  ASSERT_TRUE(inbox_.run_until([&] { return ended(running); }));
  EXPECT_EQ(scheduler_->chunk_now(2048), 4 * kChunkTokens) << "the next comes soon";
  time_ = time_.load() + BatchScheduler::kStepsAreComing;
  EXPECT_EQ(scheduler_->chunk_now(2048), 2048U);
}

TEST_F(Scheduling, RunsChunksWholeWhereNobodySteps) {
  const auto tokens = test::some_tokens(engine(), 2 * kChunkTokens);
  Sequence reader = test::reserve(engine(), 2 * kChunkTokens);
  const auto first = chunk(reader, 0, std::span(tokens).first(kChunkTokens), "first");
  const auto second = chunk(reader, kChunkTokens, std::span(tokens).last(kChunkTokens), "second");
  hold();
  scheduler_->submit(first);
  scheduler_->submit(second);
  EXPECT_EQ(scheduler_->load().waiting_chunks, 0U) << "both are with the executor";
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(second); }));
  EXPECT_EQ(scheduler_->load().chunk_pieces, 2U);
  EXPECT_EQ(log_, (std::vector<std::string>{"first", "second"}));
}

TEST_F(Scheduling, EndsACancelledPassWithoutItsNeighbours) {
  Sequence kept = test::reserve(engine(), 20);
  Sequence dropped = test::reserve(engine(), 20);
  Sequence blocker = test::reserve(engine(), 20);
  hold();
  scheduler_->submit(step(blocker, 0, 7, "blocker"));
  const auto stays = step(kept, 0, 7, "stays");
  const auto goes = step(dropped, 0, 7, "goes");
  scheduler_->submit(stays);
  scheduler_->submit(goes);
  goes->cancel = true;
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(stays) && ended(goes); }));
  EXPECT_TRUE(*stays->result);
  EXPECT_EQ(goes->result->error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(goes->began);
}

TEST_F(Scheduling, FindsTheOneStepThatMakesNoSense) {
  Sequence good = test::reserve(engine(), 20);
  Sequence bad = test::reserve(engine(), 20);
  Sequence blocker = test::reserve(engine(), 20);
  hold();
  scheduler_->submit(step(blocker, 0, 7, "blocker"));
  const auto right = step(good, 0, 7, "right");
  const auto wrong = step(bad, bad.capacity(), 7, "behind its cells");
  scheduler_->submit(right);
  scheduler_->submit(wrong);
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(right) && ended(wrong); }));
  EXPECT_TRUE(*right->result);
  EXPECT_EQ(wrong->result->error().code, ErrorCode::kInvalidArgument);
  const auto alone = test::make_engine(test::reference_model("golden/llama-dense"), engine().options());
  Sequence again = test::reserve(*alone, 20);
  EXPECT_EQ(right->row, test::run_span(*alone, again, 0, std::vector<Token>{7}));
}

TEST_F(Scheduling, EndsEverythingThatHasNotBegunWhenItCloses) {
  Sequence one = test::reserve(engine(), 20);
  Sequence two = test::reserve(engine(), 20);
  hold();
  const auto begun = step(one, 0, 7, "begun");
  const auto waiting = step(two, 0, 7, "waiting");
  scheduler_->submit(begun);
  scheduler_->submit(waiting);
  scheduler_->close();
  const auto late = step(two, 0, 7, "late");
  scheduler_->submit(late);
  release();
  ASSERT_TRUE(inbox_.run_until([&] { return ended(begun) && ended(waiting) && ended(late); }));
  EXPECT_TRUE(*begun->result);
  EXPECT_EQ(waiting->result->error().code, ErrorCode::kCancelled);
  EXPECT_EQ(late->result->error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace baton::engine
