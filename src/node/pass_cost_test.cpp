#include "node/pass_cost.h"

#include <gtest/gtest.h>

#include "engine/test_model.h"

namespace baton::node {
namespace {

// Its first layer is dense, the others have experts.
class PassCost : public testing::Test {
 protected:
  const std::unique_ptr<engine::Engine> engine_ =
      engine::test::make_engine(engine::test::reference_model("tiny/deepseek2"), engine::test::small_options());
  const std::uint32_t layers_ = engine_->shape().layer_count;
  const Chunk chunk_{32, 16};
};

TEST_F(PassCost, BehindALayerComesTheNextWhateverItsKind) {
  const model::Cost dense = chunk_layer_cost(*engine_, chunk_, 0);
  const model::Cost experts = chunk_layer_cost(*engine_, chunk_, 1);
  ASSERT_NE(dense.bytes, experts.bytes);
  const model::Cost behind_dense = cost_behind_layer(*engine_, chunk_, {0, layers_}, 0);
  EXPECT_EQ(behind_dense.bytes, experts.bytes);
  EXPECT_EQ(behind_dense.flops, experts.flops);
}

TEST_F(PassCost, BehindTheLastLayerComeTheLogitsOfOneToken) {
  const model::Cost head = cost_behind_layer(*engine_, chunk_, {0, layers_}, layers_ - 1);
  EXPECT_EQ(head.bytes, model::head_cost(engine_->shape(), 1).bytes);
  EXPECT_GT(head.bytes, 0);
}

TEST_F(PassCost, BehindAStageThatOthersGoOnFromComesNothing) {
  const model::Cost nothing = cost_behind_layer(*engine_, chunk_, {0, 1}, 0);
  EXPECT_EQ(nothing.bytes, 0);
  EXPECT_EQ(nothing.flops, 0);
}

TEST_F(PassCost, AStepIsAllLayersAndItsLogits) {
  const Chunk step{32, 1};
  double bytes = model::head_cost(engine_->shape(), 1).bytes;
  for (std::uint32_t layer = 0; layer < layers_; ++layer) bytes += chunk_layer_cost(*engine_, step, layer).bytes;
  EXPECT_DOUBLE_EQ(step_cost(*engine_, step, {0, layers_}).bytes, bytes);
}

}  // namespace
}  // namespace baton::node
