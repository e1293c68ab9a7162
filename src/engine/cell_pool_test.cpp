#include "engine/cell_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace baton::engine {
namespace {

TEST(CellPool, TakesTheFirstGapThatIsLargeEnough) {
  CellPool pool(4 * kCellBlock);
  EXPECT_EQ(pool.take(kCellBlock), 0U);
  EXPECT_EQ(pool.take(kCellBlock), kCellBlock);
  EXPECT_EQ(pool.take(2 * kCellBlock), 2 * kCellBlock);
  pool.give_back(0, kCellBlock);
  pool.give_back(2 * kCellBlock, 2 * kCellBlock);
  EXPECT_EQ(pool.free_cells(), 3 * kCellBlock);
  EXPECT_EQ(pool.largest_gap(), 2 * kCellBlock);
  EXPECT_EQ(pool.take(2 * kCellBlock), 2 * kCellBlock);
  EXPECT_EQ(pool.take(kCellBlock), 0U);
}

TEST(CellPool, RefusesWhatNoGapHolds) {
  CellPool pool(3 * kCellBlock + 100);
  EXPECT_EQ(pool.capacity(), 3 * kCellBlock);
  ASSERT_TRUE(pool.take(kCellBlock));
  const auto middle = pool.take(kCellBlock);
  ASSERT_TRUE(pool.take(kCellBlock));
  pool.give_back(0, kCellBlock);
  EXPECT_FALSE(pool.take(2 * kCellBlock));
  pool.give_back(*middle, kCellBlock);
  EXPECT_EQ(pool.take(2 * kCellBlock), 0U) << "neighbours that are freed join";
}

TEST(CellPool, TakesTheCellsBehindOthersOrNone) {
  CellPool pool(4 * kCellBlock);
  ASSERT_EQ(pool.take(kCellBlock), 0U);
  EXPECT_TRUE(pool.take_at(kCellBlock, kCellBlock));
  EXPECT_FALSE(pool.take_at(kCellBlock, 2 * kCellBlock)) << "one of them is taken";
  EXPECT_FALSE(pool.take_at(2 * kCellBlock, 3 * kCellBlock)) << "beyond the end";
  EXPECT_EQ(pool.free_cells(), 2 * kCellBlock) << "a refusal takes nothing";
}

TEST(CellPool, GivesNoCellTwiceToThreadsThatRace) {
  CellPool pool(16 * kCellBlock);
  std::vector<std::atomic<int>> owners(16);
  std::atomic<bool> clash = false;
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        for (int round = 0; round < 2000; ++round) {
          const std::uint32_t blocks = 1 + static_cast<std::uint32_t>(round % 5);
          const auto first = pool.take(blocks * kCellBlock);
          if (!first) continue;
          for (std::uint32_t block = 0; block < blocks; ++block) {
            if (owners[*first / kCellBlock + block]++ != 0) clash = true;
          }
          for (std::uint32_t block = 0; block < blocks; ++block) owners[*first / kCellBlock + block]--;
          pool.give_back(*first, blocks * kCellBlock);
        }
      });
    }
  }
  EXPECT_FALSE(clash);
  EXPECT_EQ(pool.free_cells(), pool.capacity());
}

}  // namespace
}  // namespace baton::engine
