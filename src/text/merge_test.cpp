#include "text/merge.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "text/test_vocabularies.h"

namespace baton::text {
namespace {

// The definition, word for word.
std::vector<Symbol> merge_slowly(std::vector<Symbol> symbols, const MergeTable& table) {
  while (true) {
    Merge best;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge merge = table.find(symbols[i], symbols[i + 1]);
      if (merge.rank < best.rank) {
        best = merge;
        place = i;
      }
    }
    if (best.rank == Merge::kNever) return symbols;
    symbols[place] = best.product;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(MergeTable, KeepsTheFirstOfTwoEntriesThroughGrowth) {
  MergeTable table;
  for (Symbol i = 0; i < 100000; ++i) table.add(i, i * 7, {i, i + 1});
  table.add(5, 35, {0, 0});
  for (Symbol i = 0; i < 100000; ++i) {
    ASSERT_EQ(table.find(i, i * 7).rank, i);
    ASSERT_EQ(table.find(i, i * 7).product, i + 1);
  }
  EXPECT_EQ(table.find(1, 2).rank, Merge::kNever);
}

// Many merges share a rank, as equal scores do, so that the order among equals is tested too.
TEST(Merger, MergesAsTheDefinitionSaysWhateverTheLength) {
  ByteSource source(2);
  for (int round = 0; round < 300; ++round) {
    MergeTable table;
    for (int i = 0; i < 40; ++i) table.add(source.below(12), source.below(12), {source.below(8), source.below(12)});
    Merger merger(table);
    for (const std::size_t length : {0, 1, 2, 7, 39, 40, 41, 42, 100, 400}) {
      std::vector<Symbol> symbols(length);
      for (Symbol& symbol : symbols) symbol = source.below(12);
      const std::vector<Symbol> expected = merge_slowly(symbols, table);
      std::vector<Symbol> merged{99};
      merger.merge(symbols, merged);
      ASSERT_EQ(merged[0], 99U);
      merged.erase(merged.begin());
      ASSERT_EQ(merged, expected) << length;
    }
  }
}

TEST(MergeQueue, GivesTheLowestRankAndThenTheLeftmost) {
  ByteSource source(3);
  MergeQueue queue;
  std::multiset<std::pair<std::uint32_t, std::uint32_t>> expected;
  for (int step = 0; step < 100000; ++step) {
    if (expected.empty() || source.below(5) < 3) {
      const MergeQueue::Entry entry{source.below(20) * 50, source.below(1000)};
      queue.push(entry);
      expected.emplace(entry.rank, entry.position);
    } else {
      const auto [rank, position] = queue.pop();
      ASSERT_EQ(std::make_pair(rank, position), *expected.begin());
      expected.erase(expected.begin());
    }
    ASSERT_EQ(queue.empty(), expected.empty());
  }
}

}  // namespace
}  // namespace baton::text
