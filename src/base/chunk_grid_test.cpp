#include "base/chunk_grid.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(ChunkGrid, HasItsBordersAtMultiplesOfTheChunk) {
  using Chunks = std::vector<Chunk>;
  EXPECT_EQ(chunk_grid(0, 10, 4), (Chunks{{0, 4}, {4, 4}, {8, 2}}));
  EXPECT_EQ(chunk_grid(4, 10, 4), (Chunks{{4, 4}, {8, 2}}));
  EXPECT_EQ(chunk_grid(6, 10, 4), (Chunks{{6, 2}, {8, 2}}));
  EXPECT_EQ(chunk_grid(0, 8, 4), (Chunks{{0, 4}, {4, 4}}));
  EXPECT_EQ(chunk_grid(0, 3, 512), (Chunks{{0, 3}}));
  EXPECT_TRUE(chunk_grid(8, 8, 4).empty());
  EXPECT_TRUE(chunk_grid(0, 0, 4).empty());
  EXPECT_EQ(chunk_grid(4'294'967'290u, 4'294'967'295u, 7).back().end_position(), 4'294'967'295u);
}

}  // namespace
}  // namespace baton
