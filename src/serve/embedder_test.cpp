#include "serve/embedder.h"

#include <gtest/gtest.h>

#include "serve/pooled_model_fixture.h"

namespace baton::serve {
namespace {

class EmbedderOfOneModel : public test::PooledModelTest {
 protected:
  std::shared_ptr<Embedder> make(Weights weights, std::size_t waiting) {
    return Embedder::create(*loop_, pooled_model(weights), {.waiting = waiting}, metrics_);
  }
  void start(Embedder& embedder, Embedder::Id id) {
    embedder.start(id, {.texts = {{300, 301, 302}}}, [this](Result<Vectors> made) {
      heard_.push_back(std::move(made));
      if (heard_.size() == wanted_) loop_->stop();
    });
  }

  Metrics metrics_;
  std::size_t wanted_ = 0;
  std::vector<Result<Vectors>> heard_;
};

TEST_F(EmbedderOfOneModel, AnswersAllThatItHasRoomFor) {
  const auto embedder = make(Weights::kNotLoaded, 2);
  wanted_ = 3;
  for (Embedder::Id id = 0; id < wanted_; ++id) start(*embedder, id);
  ASSERT_EQ(heard_.size(), 1);
  EXPECT_EQ(heard_.front().error().code, ErrorCode::kNoCapacity);
  run_loop();
  ASSERT_EQ(heard_.size(), wanted_);
  for (std::size_t index = 1; index < wanted_; ++index) {
    ASSERT_TRUE(heard_[index]) << heard_[index].error().to_string();
    EXPECT_EQ(heard_[index]->size(), 1);
  }
}

// As where its model is deleted before it has begun.
TEST_F(EmbedderOfOneModel, TellsEverybodyThatItEnds) {
  auto embedder = make(Weights::kNotLoaded, 4);
  for (Embedder::Id id = 0; id < 3; ++id) start(*embedder, id);
  embedder->cancel(1);
  EXPECT_TRUE(heard_.empty());
  embedder.reset();
  ASSERT_EQ(heard_.size(), 2);
  for (const auto& made : heard_) EXPECT_EQ(made.error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace baton::serve
