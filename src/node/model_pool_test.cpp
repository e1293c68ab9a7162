// Real engines of small models on one device, loaded and unloaded as they are asked for. The clock is the test's.
#include "node/model_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include "engine/memory_need.h"
#include "engine/test_model.h"
#include "net/test_support.h"

namespace baton::node {
namespace {

constexpr std::uint32_t kPoolLayers = 4;
constexpr std::uint32_t kContextTokens = 256;
// Longer than a model stays at least.
constexpr auto kLong = std::chrono::seconds(2);

class Collector : public RequestObserver {
 public:
  void on_prefilled(std::uint32_t, std::uint32_t) override {}
  void on_token(Token) override {
    ++tokens;
    if (on_first && tokens == 1) on_first();
  }
  void on_recovery(const Recovery&) override {}
  void on_finished(Result<RequestReport> result) override { report = std::move(result); }

  std::size_t tokens = 0;
  std::function<void()> on_first;
  std::optional<Result<RequestReport>> report;
};

class ModelsOfANode : public testing::Test {
 protected:
  static constexpr std::array kNames = {"a", "b", "c"};

  static void SetUpTestSuite() {
    folder_.emplace(TemporaryFolder::create("baton-test").value());
    // Each has another number of layers, so that it is another file.
    std::uint32_t layers = kPoolLayers;
    for (const char* name : kNames) {
      files_.push_back(engine::test::synthetic_model(folder_->path() / (std::string(name) + ".gguf"), layers++));
    }
  }
  static void TearDownTestSuite() {
    files_.clear();
    folder_.reset();
  }

  void SetUp() override {
    options_.engine.device = "CPU";
    options_.engine.threads = 1;
    options_.engine.context_tokens = kContextTokens;
    options_.engine.max_chunk_tokens = 64;
    options_.now = [this] { return time_; };
    options_.measure = [](engine::Executor&, const Sha256&) -> Result<DeviceRates> { return DeviceRates(); };
    node_ = net::must(Node::create(*loop_, net::new_identity(), {}));
  }
  void TearDown() override {
    pool_.reset();
    node_.reset();
    loop_.end();
  }

  void start() {
    std::vector<KnownModel> known;
    for (std::size_t index = 0; index < files_.size(); ++index) known.push_back({kNames[index], files_[index]});
    start(std::move(known));
  }
  void start(std::vector<KnownModel> known) {
    pool_ = std::make_unique<ModelPool>(*loop_, *node_, std::make_shared<engine::DeviceThread>(), options_,
                                        std::move(known));
  }
  PooledModel& model(std::size_t index) { return *pool_->models()[index]; }

  // Looks again and again, as whoever waits for something does.
  bool until(const std::function<bool()>& condition) {
    net::Timer timer(*loop_);
    std::function<void()> look = [&] {
      loop_.poke();
      timer.start(Duration(std::chrono::milliseconds(2)), [&] { look(); });
    };
    look();
    return loop_.run_until(condition);
  }
  Result<LoadedModel*> ask_until_answered(PooledModel& wanted) {
    Result<LoadedModel*> answer = nullptr;
    EXPECT_TRUE(until([&] {
      if (answer && *answer == nullptr) answer = wanted.ask();
      return !answer || *answer != nullptr;
    }));
    return answer;
  }
  bool loads(PooledModel& wanted) {
    const auto answer = ask_until_answered(wanted);
    return answer && *answer != nullptr;
  }
  std::vector<std::string> loaded() const {
    std::vector<std::string> names;
    for (const auto& held : pool_->models()) {
      if (held->loaded() != nullptr) names.push_back(held->name());
    }
    return names;
  }
  // Enough for this many of the models, each as large as the largest, and not for one more.
  void give_memory_for(std::uint64_t models) {
    const std::uint64_t need = engine::memory_need_bytes(*files_.back(), options_.engine);
    options_.memory_bytes = models * need * 115 / 100;
  }
  static RequestOptions request(const LoadedModel& with, std::uint32_t new_tokens) {
    RequestOptions options;
    options.prompt = {5, 6, 7};
    options.max_new_tokens = new_tokens;
    options.chunk_tokens = 64;
    options.plan = plan::Plan::single(with.engine().shape().layer_count);
    return options;
  }

  static inline std::optional<TemporaryFolder> folder_;
  static inline std::vector<std::shared_ptr<const engine::Model>> files_;
  net::TestLoop loop_;
  TimePoint time_ = now();
  PoolOptions options_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<ModelPool> pool_;
};

TEST_F(ModelsOfANode, AreLoadedWhenTheyAreAskedFor) {
  start();
  EXPECT_TRUE(loaded().empty());
  EXPECT_EQ(net::must(model(1).ask()), nullptr);
  ASSERT_TRUE(loads(model(1)));
  EXPECT_EQ(loaded(), std::vector<std::string>{"b"});
  EXPECT_EQ(model(1).loaded()->digest(), net::must(files_[1]->digest()));
  EXPECT_GT(model(1).bytes(), engine::memory_need_bytes(*files_[1], options_.engine) / 2);
  ASSERT_TRUE(loads(model(0)));
  EXPECT_EQ(loaded(), (std::vector<std::string>{"a", "b"}));
  // What is not asked for is known all the same, so that a peer hears why it is refused.
  EXPECT_TRUE(until([&] { return model(2).digest().has_value(); }));
  EXPECT_EQ(pool_->why_not_loaded(*model(2).digest())->code, ErrorCode::kNoCapacity);
  EXPECT_EQ(pool_->why_not_loaded({}), std::nullopt);
}

TEST_F(ModelsOfANode, ComeAndGoWhileTheNodeRuns) {
  start({{kNames[0], files_[0], kForever}});
  ASSERT_TRUE(loads(model(0)));
  PooledModel& later = pool_->add({kNames[1], files_[1], Duration::zero()});
  EXPECT_EQ(pool_->models().size(), 2u);
  ASSERT_TRUE(loads(later));
  EXPECT_EQ(pool_->why_not_loaded(*later.digest())->code, ErrorCode::kNoCapacity);
  time_ += std::chrono::hours(1);
  EXPECT_TRUE(until([&] { return later.state() == PooledModel::State::kUnloaded && !later.is_wanted(); }));
  const Sha256 digest = *later.digest();
  pool_->remove(later);
  EXPECT_EQ(pool_->models().size(), 1u);
  EXPECT_EQ(pool_->why_not_loaded(digest), std::nullopt);
  EXPECT_EQ(loaded(), std::vector<std::string>{"a"});
  // One may go before its digest is known.
  pool_->remove(pool_->add({kNames[2], files_[2]}));
  PooledModel& again = pool_->add({kNames[2], files_[2]});
  ASSERT_TRUE(loads(again));
}

TEST_F(ModelsOfANode, SayWhereTheirFileCannotBeReadAnyMore) {
  const auto path = folder_->path() / "gone.gguf";
  const auto file = engine::test::synthetic_model(path, kPoolLayers + 7);
  // Kept beside the file when it was made, or in the cache.
  std::filesystem::remove(path.string() + ".sha256");
  std::filesystem::remove(path);
  start({{"gone", file}});
  const auto answer = ask_until_answered(model(0));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kNotFound);
}

TEST_F(ModelsOfANode, AnswerSideBySide) {
  start();
  ASSERT_TRUE(loads(model(0)) && loads(model(1)));
  std::array<Collector, 2> collectors;
  std::vector<std::shared_ptr<Request>> requests;
  for (std::size_t index = 0; index < 2; ++index) {
    LoadedModel& with = *model(index).loaded();
    requests.push_back(net::must(with.submit(request(with, 20), collectors[index])));
  }
  EXPECT_TRUE(until([&] { return collectors[0].report && collectors[1].report; }));
  EXPECT_TRUE(*collectors[0].report && *collectors[1].report);
  EXPECT_EQ(collectors[0].tokens, 20u);
  EXPECT_EQ(collectors[1].tokens, 20u);
}

TEST_F(ModelsOfANode, GoWhenNobodyHasUsedThemForTheirTime) {
  options_.keep_alive = std::chrono::minutes(5);
  start();
  ASSERT_TRUE(loads(model(0)) && loads(model(1)));
  model(1).keep_alive(kForever);
  time_ += std::chrono::seconds(299);
  ASSERT_EQ(net::must(model(0).ask()), model(0).loaded());
  time_ += std::chrono::seconds(299);
  EXPECT_EQ(model(0).expires_in(), Duration(std::chrono::seconds(1)));
  EXPECT_EQ(loaded(), (std::vector<std::string>{"a", "b"}));
  time_ += std::chrono::seconds(1);
  EXPECT_TRUE(until([&] { return loaded() == std::vector<std::string>{"b"}; }));
  time_ += std::chrono::hours(24 * 365);
  // What a client wished for it ends with it.
  model(1).keep_alive(Duration::zero());
  EXPECT_TRUE(until([&] { return loaded().empty(); }));
  ASSERT_TRUE(loads(model(1)));
  EXPECT_EQ(model(1).expires_in(), Duration(std::chrono::minutes(5)));
}

TEST_F(ModelsOfANode, StayWhileTheyAreUsed) {
  options_.keep_alive = Duration::zero();
  start();
  LoadedModel& with = *net::must(ask_until_answered(model(0)));
  Collector collector;
  std::shared_ptr<Request> running;
  collector.on_first = [&] { time_ += std::chrono::hours(1); };
  running = net::must(with.submit(request(with, 100), collector));
  EXPECT_TRUE(until([&] { return collector.report.has_value(); }));
  EXPECT_TRUE(*collector.report);
  EXPECT_EQ(collector.tokens, 100u);
  // A request that somebody still holds may look back at its model.
  EXPECT_EQ(model(0).loaded(), &with);
  running.reset();
  EXPECT_TRUE(until([&] { return loaded().empty(); }));
}

TEST_F(ModelsOfANode, GiveTheirRoomToAnotherTheOneUsedLongestAgoFirst) {
  give_memory_for(2);
  start();
  ASSERT_TRUE(loads(model(0)));
  time_ += kLong;
  ASSERT_TRUE(loads(model(1)));
  time_ += kLong;
  ASSERT_TRUE(loads(model(0)));
  time_ += kLong;
  ASSERT_TRUE(loads(model(2)));
  EXPECT_EQ(loaded(), (std::vector<std::string>{"a", "c"}));
}

TEST_F(ModelsOfANode, AreNotTakenFromAnAnswerForAnothersSake) {
  give_memory_for(1);
  start();
  LoadedModel& with = *net::must(ask_until_answered(model(0)));
  time_ += kLong;
  Collector collector;
  auto running = net::must(with.submit(request(with, 200), collector));
  bool ended_before = false;
  EXPECT_TRUE(until([&] {
    const auto other = model(1).ask();
    if (other && *other != nullptr) return true;
    // No new answer may come in between, or the other would wait for ever.
    if (collector.tokens > 0 && model(0).loaded() == nullptr && !collector.report) {
      Collector late;
      EXPECT_EQ(with.submit(request(with, 1), late).error().code, ErrorCode::kNoCapacity);
    }
    if (collector.report) {
      ended_before = true;
      running.reset();
    }
    return false;
  }));
  EXPECT_TRUE(ended_before);
  EXPECT_EQ(collector.tokens, 200u);
  EXPECT_EQ(loaded(), std::vector<std::string>{"b"});
}

TEST_F(ModelsOfANode, ThatAreTooLargeAreRefusedAndNothingIsUnloaded) {
  options_.memory_bytes = engine::memory_need_bytes(*files_[0], options_.engine) * 5 / 4;
  start({{"a", files_[0]}, {"c", files_[2]}});
  ASSERT_GT(engine::memory_need_bytes(*files_[2], options_.engine), *options_.memory_bytes);
  ASSERT_TRUE(loads(model(0)));
  time_ += kLong;
  const auto refused = ask_until_answered(model(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message.find("--memory"), std::string::npos);
  EXPECT_EQ(loaded(), std::vector<std::string>{"a"});
}

TEST_F(ModelsOfANode, ThatCannotBeLoadedSayWhyAndAreTriedAgainLater) {
  bool broken = true;
  options_.measure = [&, bad = net::must(files_[1]->digest())](engine::Executor&,
                                                               const Sha256& digest) -> Result<DeviceRates> {
    if (broken && digest == bad) return fail(ErrorCode::kIo, "the disk is gone");
    return DeviceRates();
  };
  start();
  ASSERT_TRUE(loads(model(0)));
  for (int waiter = 0; waiter < 2; ++waiter) {
    const auto refused = ask_until_answered(model(1));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "the disk is gone");
  }
  EXPECT_EQ(loaded(), std::vector<std::string>{"a"});
  broken = false;
  time_ += kLong;
  EXPECT_TRUE(loads(model(1)));
}

TEST_F(ModelsOfANode, AreNotLoadedTwiceUnderTwoNames) {
  start({{"a", files_[0]}, {"again", files_[0]}});
  ASSERT_TRUE(loads(model(0)));
  const auto refused = ask_until_answered(model(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ModelsOfANode, ForWhichNobodyAsksAnyMoreAreForgotten) {
  give_memory_for(1);
  start();
  LoadedModel& with = *net::must(ask_until_answered(model(0)));
  // Not told to go, as it has only just come.
  Collector collector;
  auto running = net::must(with.submit(request(with, 200), collector));
  EXPECT_EQ(net::must(model(1).ask()), nullptr);
  time_ += kLong;
  EXPECT_TRUE(until([&] { return collector.report.has_value(); }));
  running.reset();
  EXPECT_EQ(collector.tokens, 200u);
  EXPECT_EQ(loaded(), std::vector<std::string>{"a"});
}

TEST_F(ModelsOfANode, EndWhileOneIsBeingLoaded) {
  std::atomic<bool> is_loading = false;
  options_.measure = [&](engine::Executor&, const Sha256&) -> Result<DeviceRates> {
    is_loading = true;
    // So that the end comes first.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return DeviceRates();
  };
  start();
  EXPECT_EQ(net::must(model(0).ask()), nullptr);
  EXPECT_TRUE(until([&] { return is_loading.load(); }));
  pool_.reset();
  EXPECT_TRUE(node_->models().empty());
}

}  // namespace
}  // namespace baton::node
