#include "model/kv_rows.h"

#include <gtest/gtest.h>

#include "base/attention_window.h"

namespace baton::model {
namespace {

static_assert(block_below(255U) == 0 && block_below(256U) == 256 && block_below(511U) == 256);
static_assert(block_above(0U) == 0 && block_above(1U) == 256 && block_above(256U) == 256 && block_above(257U) == 512);

TEST(KvRows, HoldTheWindowOfEveryPassWhereverItBegins) {
  for (const std::uint32_t window : {1U, 8U, 255U, 256U, 257U, 512U, 1024U, 4096U}) {
    for (const std::uint32_t chunk : {1U, 16U, 128U, 500U, 512U, 2048U}) {
      const std::uint64_t rows = window_rows(window, chunk);
      std::uint64_t most = 0;
      for (std::uint32_t first = 0; first < window + 1000; ++first) {
        const std::uint64_t seen = block_below(first_visible(first, window));
        most = std::max(most, block_above(first + chunk) - seen);
        // A short pass also leaves room to be taken back.
        const std::uint64_t kept = block_below(first_visible(first - std::min(first, kRollbackTokens), window));
        most = std::max(most, block_above(first + kRollbackTokens) - kept);
      }
      EXPECT_LE(most, rows) << window << " " << chunk;
      EXPECT_LE(rows, most + kKvBlock) << window << " " << chunk;
    }
  }
}

ModelShape gemma_like() {
  ModelShape shape;
  shape.layer_count = 6;
  shape.layers.resize(6);
  for (LayerShape& layer : shape.layers) layer.memory = {.k_width = 3, .v_width = 2};
  for (std::uint32_t layer = 0; layer < 5; ++layer) shape.layers[layer].attention_window = 512;
  return shape;
}

TEST(KvRows, AreAWindowAndAChunkWhateverTheContext) {
  const ModelShape shape = gemma_like();
  for (const std::uint32_t context : {4096U, 8192U, 1U << 20U}) {
    const KvDemand demand{.context_tokens = context, .max_chunk_tokens = 512};
    EXPECT_EQ(layer_rows(shape, 0, demand), 1280U);
    EXPECT_EQ(layer_rows(shape, 5, demand), context);
    EXPECT_TRUE(keeps_window(shape, 4, demand));
    EXPECT_FALSE(keeps_window(shape, 5, demand));
    EXPECT_EQ(kv_bytes(shape, {0, 6}, demand, 2), 10.0 * (5 * 1280 + context));
    EXPECT_EQ(kv_bytes(shape, {4, 6}, demand, 2), 10.0 * (1280 + context));
  }
  const KvDemand three{.context_tokens = 8192, .max_chunk_tokens = 512, .sequences = 3};
  EXPECT_EQ(layer_rows(shape, 0, three), 3840U);
}

TEST(KvRows, AreThoseOfTheContextWhereWindowsSaveNothing) {
  const ModelShape shape = gemma_like();
  for (const KvDemand& demand : {KvDemand{.context_tokens = 1280, .max_chunk_tokens = 512},
                                 KvDemand{.context_tokens = 300, .max_chunk_tokens = 1},
                                 KvDemand{.context_tokens = 8192, .max_chunk_tokens = 512, .sequences = 7}}) {
    EXPECT_EQ(rows_in_window(shape, demand), 0U);
    EXPECT_FALSE(keeps_window(shape, 0, demand));
    EXPECT_EQ(layer_rows(shape, 0, demand), block_above(demand.context_tokens));
  }
}

TEST(KvRows, AreEnoughForTheWidestWindowThatSaves) {
  ModelShape shape = gemma_like();
  shape.layers[1].attention_window = 1024;
  shape.layers[2].attention_window = 100'000;
  const KvDemand demand{.context_tokens = 8192, .max_chunk_tokens = 512};
  EXPECT_EQ(layer_rows(shape, 0, demand), window_rows(1024, 512));
  EXPECT_EQ(layer_rows(shape, 1, demand), window_rows(1024, 512));
  EXPECT_EQ(layer_rows(shape, 2, demand), 8192U);
}

}  // namespace
}  // namespace baton::model
