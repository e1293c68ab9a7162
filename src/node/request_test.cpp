// Requests by themselves: a real engine with a reference model, and peers that are not there.
#include "node/request.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/test_model.h"
#include "net/test_support.h"

namespace baton::node {
namespace {

constexpr std::uint32_t kRequestChunk = 16;
constexpr std::uint32_t kAskedTokens = 6;
const std::string kOwnFingerprint(64, 'f');

class Observer : public RequestObserver {
 public:
  explicit Observer(net::TestLoop& loop) : loop_(loop) {}
  void on_prefilled(std::uint32_t done, std::uint32_t) override { prefilled = done; }
  void on_token(Token token) override {
    tokens.push_back(token);
    if (after_token) after_token();
  }
  void on_recovery(const Recovery& recovery) override { recoveries.push_back(recovery); }
  void on_finished(Result<RequestReport> result) override {
    ++endings;
    report = std::move(result);
    loop_.poke();
  }

  std::vector<Token> tokens;
  std::vector<Recovery> recoveries;
  std::uint32_t prefilled = 0;
  int endings = 0;
  std::optional<Result<RequestReport>> report;
  std::function<void()> after_token;

 private:
  net::TestLoop& loop_;
};

class RequestTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = engine::test::reference_model("tiny/llama-linear"); }
  static void TearDownTestSuite() { model_.reset(); }

  void SetUp() override {
    engine::EngineOptions options;
    options.device = "CPU";
    options.threads = 1;
    options.context_tokens = 256;
    options.max_chunk_tokens = kRequestChunk;
    executor_ = std::make_unique<engine::Executor>(net::must(engine::Engine::create(model_, options)), 16);
    widths_ = widths_of(model_->shape());
    transport_ = net::must(net::Transport::create(*loop_, net::new_identity()));
    exchange_ = std::make_unique<Exchange>(
        *loop_, *transport_, [this](const handoff::Open&) { return widths_; },
        [](const handoff::Open&, const net::Fingerprint&) -> Result<Exchange::OpenDecision> {
          return fail(ErrorCode::kRefused, "nobody is expected");
        });
    scheduler_ =
        engine::BatchScheduler::create(*executor_, [this](net::Task task) { loop_->post(std::move(task)); }, clock_);
    host_ = std::make_unique<SessionHost>(*loop_, *executor_, *scheduler_, *exchange_, widths_,
                                          Surroundings{.now = clock_});
  }
  void TearDown() override {
    scheduler_->close();
    executor_.reset();
    host_.reset();
    exchange_.reset();
  }

  RequestOptions options(std::string_view plan = "") {
    RequestOptions made;
    for (Token i = 0; i < 40; ++i) made.prompt.push_back((i * 37 + 5) % 96);
    made.max_new_tokens = kAskedTokens;
    made.chunk_tokens = kRequestChunk;
    const std::uint32_t layers = widths_.layers();
    made.plan = plan.empty()
                    ? plan::Plan::single(layers)
                    : net::must(plan::parse_plan(
                          plan, {{"A", "127.0.0.1:1", std::string(64, 'a')}, {"self", "127.0.0.1:1", kOwnFingerprint}},
                          layers));
    return made;
  }

  Result<std::shared_ptr<Request>> start(RequestOptions made, Observer& observer) {
    handoff::Open open;
    open.agent = "tester";
    open.plan.nodes = {{std::string(plan::kLocalName), "", kOwnFingerprint}};
    return Request::start(*host_, std::move(open), std::move(made), observer);
  }

  // Runs to its end.
  RequestReport report_of(RequestOptions made, Observer& observer) {
    const auto request = net::must(start(std::move(made), observer));
    EXPECT_TRUE(loop_.run_until([&] { return observer.report.has_value(); }));
    EXPECT_TRUE(request->ended());
    EXPECT_TRUE(observer.report && *observer.report);
    return observer.report && *observer.report ? **observer.report : RequestReport();
  }

  // What the engine itself finds likeliest, one token after the other.
  std::vector<Token> likeliest_tokens() {
    const RequestOptions made = options();
    auto engine = engine::test::make_engine(model_, executor_->engine().options());
    engine::Sequence sequence = engine::test::reserve(*engine, 64);
    const std::size_t vocabulary = model_->shape().vocabulary_size;
    std::vector<float> rows = engine::test::run_chunks(*engine, sequence, made.prompt, kRequestChunk);
    std::vector<Token> tokens;
    auto position = static_cast<std::uint32_t>(made.prompt.size());
    while (true) {
      const auto row = std::span(rows).last(vocabulary);
      tokens.push_back(static_cast<Token>(std::ranges::max_element(row) - row.begin()));
      if (tokens.size() == kAskedTokens) return tokens;
      rows = engine::test::run_span(*engine, sequence, position++, std::span(tokens).last(1));
    }
  }

  static inline std::shared_ptr<const engine::Model> model_;
  net::TestLoop loop_;
  std::function<TimePoint()> clock_ = [] { return now(); };
  handoff::Widths widths_;
  std::unique_ptr<engine::Executor> executor_;
  std::shared_ptr<engine::BatchScheduler> scheduler_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<SessionHost> host_;
};

TEST_F(RequestTest, GivesTheTokensThatTheEngineFindsLikeliest) {
  Observer observer(loop_);
  const RequestReport report = report_of(options(), observer);
  EXPECT_EQ(report.tokens, likeliest_tokens());
  EXPECT_EQ(observer.tokens, report.tokens);
  EXPECT_EQ(observer.prefilled, 40u);
  EXPECT_EQ(observer.endings, 1);
  EXPECT_EQ(report.plan.shape(), "single");
  EXPECT_TRUE(report.recoveries.empty());
  EXPECT_EQ(report.transfer.slices, 0u);
  EXPECT_EQ(executor_->engine().free_cells(), 256u);
}

TEST_F(RequestTest, EndsWhereTheTextEnds) {
  const std::vector<Token> whole = likeliest_tokens();
  RequestOptions made = options();
  made.end_tokens = {whole[3]};
  Observer observer(loop_);
  const std::vector<Token> until_end(whole.begin(), std::ranges::find(whole, whole[3]));
  EXPECT_EQ(report_of(std::move(made), observer).tokens, until_end);
}

TEST_F(RequestTest, TakesItsTimesFromTheClockThatItIsGiven) {
  const TimePoint still{std::chrono::hours(1)};
  host_->surroundings.now = [still] { return still; };
  Observer observer(loop_);
  const RequestReport report = report_of(options(), observer);
  EXPECT_EQ(report.timings.total_s, 0);
  EXPECT_EQ(report.timings.prefill_s, 0);
}

TEST_F(RequestTest, GoesOnAloneAndTellsWhatItGaveUp) {
  Observer observer(loop_);
  const std::string layers = std::to_string(widths_.layers());
  const std::string asked = "prefill=A:0-" + layers + ";decode=local:0-" + layers;
  const RequestReport report = report_of(options(asked), observer);
  EXPECT_EQ(report.tokens, likeliest_tokens());
  EXPECT_EQ(report.plan.to_string(), plan::Plan::single(widths_.layers()).to_string());
  ASSERT_EQ(report.recoveries.size(), 1u);
  const Recovery& recovery = report.recoveries[0];
  ASSERT_TRUE(recovery.lost);
  EXPECT_EQ(recovery.lost->name, "A");
  EXPECT_EQ(recovery.lost->address, "127.0.0.1:1");
  EXPECT_EQ(recovery.plan, asked);
  EXPECT_EQ(recovery.error.code, ErrorCode::kUnavailable);
  EXPECT_EQ(recovery.error.context, "A at 127.0.0.1:1");
  EXPECT_EQ(recovery.salvaged_tokens, 0u);
  EXPECT_EQ(recovery.prompt_tokens, 40u);
  EXPECT_EQ(observer.recoveries.size(), 1u);
  EXPECT_LE(report.timings.queue_s, report.timings.prefill_s);
  EXPECT_LE(report.timings.prefill_s, report.timings.first_token_s);
}

TEST_F(RequestTest, IsCancelledOnceAndGivesItsCellsBack) {
  Observer observer(loop_);
  std::shared_ptr<Request> request;
  observer.after_token = [&] { request->cancel(); };
  request = net::must(start(options(), observer));
  ASSERT_TRUE(loop_.run_until([&] { return observer.report.has_value(); }));
  request->cancel();
  EXPECT_EQ(observer.report->error().code, ErrorCode::kCancelled);
  EXPECT_EQ(observer.tokens.size(), 1u);
  EXPECT_EQ(observer.endings, 1);
  const auto all_free = [&] { return executor_->engine().free_cells() == 256; };
  const TimePoint deadline = now() + net::kTestPatience;
  while (!all_free() && now() < deadline) loop_.run_until([] { return false; }, std::chrono::milliseconds(5));
  EXPECT_TRUE(all_free());
}

TEST_F(RequestTest, RefusesWhatMakesNoSense) {
  Observer observer(loop_);
  const auto refusal = [&](const auto& spoil) {
    RequestOptions made = options();
    spoil(made);
    const auto request = start(std::move(made), observer);
    EXPECT_FALSE(request);
    return request ? "" : std::string(error_code_name(request.error().code)) + ": " + request.error().message;
  };
  EXPECT_EQ(refusal([](auto& made) { made.prompt.clear(); }), "invalid_argument: the prompt has no tokens");
  EXPECT_EQ(refusal([](auto& made) { made.max_new_tokens = 0; }),
            "invalid_argument: a request generates at least one token");
  EXPECT_EQ(refusal([](auto& made) { made.prompt[3] = 96; }),
            "invalid_argument: token 96 is not in the vocabulary of 96 tokens");
  EXPECT_NE(refusal([](auto& made) { made.max_new_tokens = 1000; }).find("--ctx 1280"), std::string::npos);
  const std::string layers = std::to_string(widths_.layers());
  const auto with_self = options("prefill=self:0-" + layers + ";decode=local:0-" + layers);
  EXPECT_EQ(refusal([&](auto& made) { made.plan = with_self.plan; }),
            "invalid_argument: the plan's node 'self' has this machine's own fingerprint");
  EXPECT_EQ(observer.endings, 0);
}

}  // namespace
}  // namespace baton::node
