#include "model/cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace baton::model {
namespace {

std::uint64_t counted(TokenRun run, std::uint64_t window) {
  std::uint64_t sum = 0;
  for (std::uint64_t at = run.first_position; at < run.first_position + run.token_count; ++at) {
    sum += window == 0 ? at + 1 : std::min(at + 1, window);
  }
  return sum;
}

TEST(Cost, CountsAttendedPositionsExactly) {
  for (std::uint64_t first = 0; first < 20; ++first) {
    for (std::uint64_t count = 0; count < 20; ++count) {
      for (std::uint64_t window = 0; window < 25; ++window) {
        const TokenRun run{first, count};
        ASSERT_EQ(attended_positions(run, window), counted(run, window)) << first << " " << count << " " << window;
      }
    }
  }
}

ModelShape small_shape() {
  ModelShape shape;
  shape.layer_count = 1;
  shape.head_count = 4;
  shape.kv_head_count = 2;
  shape.key_head_width = 8;
  shape.value_head_width = 8;
  shape.layers = {{.memory = {.k_width = 16, .v_width = 16}, .weight_count = 1000, .weight_bytes = 560}};
  shape.head_weight_count = 300;
  shape.head_weight_bytes = 170;
  return shape;
}

TEST(Cost, OfALayerIsItsWeightsAndItsAttention) {
  const ModelShape shape = small_shape();
  const std::array runs = {TokenRun{2, 3}};
  // Positions 2, 3 and 4 see 3 + 4 + 5 = 12.
  EXPECT_DOUBLE_EQ(layer_flops(shape, 0, runs), 2.0 * 1000 * 3 + 4.0 * 4 * 8 * 12);
  // Five positions' K and V are read, three written.
  EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, runs, 10), 560 + 8 * 10.0);
}

TEST(Cost, ReadsWeightsOnceForABatchOfSequences) {
  const ModelShape shape = small_shape();
  const std::array one = {TokenRun{7, 1}};
  const std::array three = {TokenRun{7, 1}, TokenRun{7, 1}, TokenRun{7, 1}};
  EXPECT_DOUBLE_EQ(layer_flops(shape, 0, three), 3 * layer_flops(shape, 0, one));
  EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, three, 10) - 560, 3 * (layer_bytes(shape, 0, one, 10) - 560));
}

TEST(Cost, ReadsNoMoreKvThanTheWindow) {
  ModelShape shape = small_shape();
  shape.layers[0].attention_window = 4;
  const std::array runs = {TokenRun{100, 2}};
  // Position 100 sees 97..100, position 101 sees 98..101: five cells read, two written.
  EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, runs, 1), 560 + 7);
}

TEST(Cost, OfExpertsIsThatOfThoseTheTokensChoose) {
  ModelShape shape = small_shape();
  shape.layers[0].expert_count = 8;
  shape.layers[0].experts_per_token = 2;
  shape.layers[0].expert_weight_count = 800;
  shape.layers[0].expert_weight_bytes = 400;
  const std::array one = {TokenRun{0, 1}};
  const std::array two = {TokenRun{0, 1}, TokenRun{0, 1}};
  const double attention = 4.0 * 4 * 8;
  EXPECT_DOUBLE_EQ(layer_flops(shape, 0, one), 2.0 * (200 + 200) + attention);
  EXPECT_DOUBLE_EQ(layer_flops(shape, 0, two), 2 * layer_flops(shape, 0, one));
  // One token reads two experts of eight; two tokens meet in some: 8 (1 - (3/4)^2) = 3.5.
  EXPECT_DOUBLE_EQ(experts_touched(shape.layers[0], 1), 2);
  EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, one, 0), 160 + 100);
  EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, two, 0), 160 + 175);
  // A long prompt reads them all.
  EXPECT_NEAR(experts_touched(shape.layers[0], 512), 8, 1e-9);
}

TEST(Cost, OfTheHeadIsNothingWithoutRows) {
  EXPECT_DOUBLE_EQ(head_cost(small_shape(), 0).bytes, 0);
  EXPECT_DOUBLE_EQ(head_cost(small_shape(), 2).flops, 2.0 * 300 * 2);
  EXPECT_DOUBLE_EQ(head_cost(small_shape(), 2).bytes, 170);
}

TEST(Cost, OfALayerWithAStateDoesNotGrowWithTheText) {
  ModelShape shape = small_shape();
  shape.layers[0].memory = {.state_width = 50};
  for (const std::uint64_t first : {0U, 1000U}) {
    const std::array runs = {TokenRun{first, 3}, TokenRun{first, 1}};
    EXPECT_DOUBLE_EQ(layer_flops(shape, 0, runs), (2.0 * 1000 + 6 * 50) * 4);
    EXPECT_DOUBLE_EQ(layer_bytes(shape, 0, runs, 0), 560 + 2 * 2 * 4 * 50.0) << "each run's state, read and written";
  }
}

}  // namespace
}  // namespace baton::model
