#include "serve/generator.h"

#include <gtest/gtest.h>

#include <array>

#include "model/vocabulary.h"
#include "node/model_pool.h"
#include "node/test_cluster.h"

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
class GeneratorOfOne : public node::test::Cluster {
 protected:
  static constexpr std::size_t kAnswers = 3;

  // How answers end whose groups are these.
  std::vector<Result<AnswerEnd>> run(const std::array<std::uint64_t, kAnswers>& groups) {
    const auto identity = net::Identity::load_or_create(folder_->path() / "key-A").value();
    node::Node& node = *nodes_.emplace_back(node::Node::create(*loop_, identity, {}).value());
    node::PoolOptions options;
    options.engine.device = "CPU";
    options.engine.threads = 1;
    options.engine.context_tokens = 512;
    options.engine.max_chunk_tokens = node::test::kChunk;
    options.measure = [](engine::Executor&, const Sha256&) { return node::DeviceRates(); };
    const auto device = std::make_shared<engine::DeviceThread>();
    node::ModelPool pool(*loop_, node, device, options, {{.name = "model", .file = model_}});
    node::PooledModel& model = *pool.models().front();
    EXPECT_TRUE(pool.take_over(model, node::ModelPool::load(model_, options, device).value()));
    const auto vocabulary = text::Vocabulary::create(model::read_vocabulary(model_->file()).value()).value();
    Metrics metrics;
    std::vector<Result<AnswerEnd>> ends;
    Generator generator(*loop_, model, vocabulary,
                        {.running = 1, .waiting = 8, .waiting_time = std::chrono::milliseconds(20)}, metrics);
    for (std::size_t index = 0; index < kAnswers; ++index) {
      AnswerRequest asked;
      asked.client = "somebody";
      asked.group = groups[index];
      asked.request.prompt = {300, 301, 302};
      asked.request.max_new_tokens = 480;
      asked.request.chunk_tokens = node::test::kChunk;
      asked.request.plan = plan::Plan::single(node::test::kLayers);
      generator.start(index, std::move(asked), std::make_shared<Ends>(ends, kAnswers, *loop_));
    }
    net::Timer deadline(*loop_);
    deadline.start(Duration(node::test::kDeadline), [&] { loop_->stop(); });
    loop_->run();
    return ends;
  }
};

TEST_F(GeneratorOfOne, GivesUpWhatHasWaitedForTooLong) {
  const auto ends = run({1, 2, 3});
  ASSERT_EQ(ends.size(), kAnswers);
  EXPECT_EQ(ends[0].error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(ends[1].error().code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(ends[2]);
}

TEST_F(GeneratorOfOne, LetsAnswersToOneRequestWaitForEachOther) {
  const auto ends = run({1, 1, 1});
  ASSERT_EQ(ends.size(), kAnswers);
  for (const auto& end : ends) EXPECT_TRUE(end) << end.error().to_string();
}

}  // namespace
}  // namespace baton::serve
