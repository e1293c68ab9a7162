#include "engine/layer_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "base/attention_window.h"
#include "engine/cell_pool.h"
#include "model/kv_rows.h"

namespace baton::engine {
namespace {

constexpr std::uint64_t kFirstCell = 512;

// Cells that remember which position was written to them; all of them belonged to somebody else before.
class Cells {
 public:
  explicit Cells(std::uint32_t count) : content_(count, kForeign) {}

  void prepare(const LayerRows::Preparation& todo) {
    ASSERT_LE(todo.moved_to, todo.moved.first + (todo.moved.count == 0 ? kFirstCell : 0));
    for (std::uint32_t i = 0; i < todo.moved.count; ++i) at(todo.moved_to + i) = at(todo.moved.first + i);
    for (const LayerRows::Cells& cells : {todo.before, todo.behind}) {
      for (std::uint32_t i = 0; i < cells.count; ++i) at(cells.first + i) = kCleared;
    }
  }
  void write(std::uint64_t cell, std::uint32_t position) { at(cell) = position; }
  std::int64_t& at(std::uint64_t cell) { return content_.at(cell - kFirstCell); }

  static constexpr std::int64_t kForeign = -2;
  static constexpr std::int64_t kCleared = -1;

 private:
  std::vector<std::int64_t> content_;
};

struct Layer {
  Layer(std::uint32_t window_in, std::uint32_t max_chunk)
      : window(window_in),
        count(static_cast<std::uint32_t>(model::window_rows(window, max_chunk))),
        rows(LayerRows::windowed(kFirstCell, count, window)),
        cells(count) {}

  // A pass: everything its tokens see is where it looks, and what they do not see is not foreign.
  void pass(std::uint32_t first, std::uint32_t tokens) {
    ASSERT_TRUE(rows.can_continue_at(first)) << first;
    cells.prepare(rows.prepare_pass(first, tokens));
    for (std::uint32_t i = 0; i < tokens; ++i) cells.write(rows.cell(first + i), first + i);
    const std::uint32_t seen = first_visible(first, window);
    for (std::uint32_t position = seen; position < first + tokens; ++position) {
      ASSERT_EQ(cells.at(rows.cell(position)), position) << "a pass at " << first;
    }
    const std::uint32_t blocks_begin = seen / kCellBlock * kCellBlock;
    const std::uint32_t blocks_end = (first + tokens + kCellBlock - 1) / kCellBlock * kCellBlock;
    for (std::uint32_t position = blocks_begin; position < blocks_end; ++position) {
      ASSERT_NE(cells.at(rows.cell(position)), Cells::kForeign) << position << " in a pass at " << first;
    }
  }

  void receive(std::uint32_t first, std::uint32_t tokens) {
    const LayerRows::Preparation todo = rows.prepare_write(first, tokens);
    cells.prepare(todo);
    for (std::uint32_t i = todo.skipped; i < tokens; ++i) cells.write(rows.cell(first + i), first + i);
  }

  std::uint32_t window;
  std::uint32_t count;
  LayerRows rows;
  Cells cells;
};

TEST(LayerRows, HoldEveryPassesWindowHoweverLongTheSequence) {
  for (const std::uint32_t window : {1U, 8U, 300U, 512U}) {
    for (const std::uint32_t chunk : {7U, 100U, 256U, 600U}) {
      Layer layer(window, chunk);
      std::uint32_t end = 0;
      for (; end < 5000; end += chunk) ASSERT_NO_FATAL_FAILURE(layer.pass(end, chunk));
      for (; end < 8000; ++end) ASSERT_NO_FATAL_FAILURE(layer.pass(end, 1));
    }
  }
}

TEST(LayerRows, AreMovedOnceInManySteps) {
  Layer layer(512, 512);
  std::uint32_t moves = 0;
  for (std::uint32_t position = 0; position < 10'000; ++position) {
    moves += layer.rows.prepare_pass(position, 1).moved.count > 0 ? 1 : 0;
  }
  EXPECT_GT(moves, 10U);
  EXPECT_LE(moves, 10'000 / 256U);
}

TEST(LayerRows, CanBeTakenBackAsFarAsIsStatedAndNoFurtherThanTheyKnow) {
  std::minstd_rand random(3);
  for (const std::uint32_t window : {8U, 300U, 512U}) {
    Layer layer(window, 256);
    std::uint32_t end = 0;
    for (int round = 0; round < 5000; ++round) {
      const std::uint32_t back = std::min<std::uint32_t>(end, random() % (model::kRollbackTokens + 1));
      const std::uint32_t tokens = 1 + random() % model::kRollbackTokens;
      ASSERT_NO_FATAL_FAILURE(layer.pass(end - back, tokens));
      // The next round goes back at most as far behind this pass's beginning.
      end = end - back + (random() % 4 == 0 ? 1 : tokens);
    }
    EXPECT_FALSE(layer.rows.can_continue_at(end - layer.count));
    EXPECT_FALSE(layer.rows.can_continue_at(end + 100));
    EXPECT_TRUE(layer.rows.can_continue_at(0));
    ASSERT_NO_FATAL_FAILURE(layer.pass(0, 100));
    EXPECT_FALSE(layer.rows.can_continue_at(200)) << "what was behind is gone";
  }
}

TEST(LayerRows, TakeWhatComesInOrderAndForgetWhatLiesBeforeAGap) {
  Layer layer(300, 256);
  for (std::uint32_t first = 0; first < 2560; first += 256) layer.receive(first, 256);
  EXPECT_TRUE(layer.rows.can_continue_at(2560));
  layer.receive(2816, 256);
  EXPECT_EQ(layer.rows.begin(), 2816U);
  EXPECT_FALSE(layer.rows.can_continue_at(3072)) << "256 positions are not a window of 300";
  EXPECT_FALSE(layer.rows.has(2560, 1));
  layer.receive(3072, 256);
  EXPECT_TRUE(layer.rows.can_continue_at(3328));
  ASSERT_NO_FATAL_FAILURE(layer.pass(3328, 1));

  Layer late(8, 256);
  late.receive(1000, 3);
  EXPECT_FALSE(late.rows.can_continue_at(1003));
  late.receive(1003, 5);
  ASSERT_NO_FATAL_FAILURE(late.pass(1008, 100)) << "blocks that begin before what came are cleared";
}

TEST(LayerRows, KeepTheEndOfWhatIsLongerThanTheyAre) {
  Layer layer(8, 16);
  const std::uint32_t tokens = 3 * layer.count + 5;
  layer.receive(0, tokens);
  EXPECT_TRUE(layer.rows.has(tokens - 8, 8));
  ASSERT_NO_FATAL_FAILURE(layer.pass(tokens, 16));
}

TEST(LayerRows, AreTheirPositionsInAFullLayer) {
  LayerRows rows = LayerRows::full(kFirstCell, 1024);
  EXPECT_FALSE(rows.keeps_window());
  EXPECT_EQ(rows.cell(1023), kFirstCell + 1023);
  EXPECT_TRUE(rows.has(0, 1024));
  EXPECT_FALSE(rows.has(1, 1024));
  EXPECT_TRUE(rows.can_continue_at(700));
  EXPECT_EQ(rows.prepare_write(512, 100).before.count, 0U);
  const LayerRows::Preparation first = rows.prepare_pass(600, 10);
  EXPECT_EQ(first.moved.count, 0U);
  EXPECT_EQ(first.before.count, 0U);
  EXPECT_EQ(first.behind.first, kFirstCell + 610);
  EXPECT_EQ(first.behind.count, 158U);
  EXPECT_EQ(rows.prepare_pass(600, 1).behind.count, 0U) << "they were cleared or written before";
}

}  // namespace
}  // namespace baton::engine
