#include "serve/fair_queue.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

std::vector<int> drain(FairQueue<int>& queue) {
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.pop());
  return order;
}

TEST(FairQueue, KeepsTheOrderOfOneClient) {
  FairQueue<int> queue(8);
  for (int item = 0; item < 5; ++item) EXPECT_TRUE(queue.push("a", item));
  EXPECT_EQ(drain(queue), (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(FairQueue, LetsClientsTakeTurns) {
  FairQueue<int> queue(8);
  for (int item = 0; item < 4; ++item) queue.push("greedy", item);
  queue.push("modest", 10);
  queue.push("late", 20);
  EXPECT_EQ(drain(queue), (std::vector<int>{0, 10, 20, 1, 2, 3}));
}

TEST(FairQueue, RefusesWhatIsTooMuch) {
  FairQueue<int> queue(2);
  EXPECT_TRUE(queue.push("a", 1));
  EXPECT_TRUE(queue.push("b", 2));
  EXPECT_FALSE(queue.push("c", 3));
  EXPECT_EQ(queue.size(), 2U);
  queue.pop();
  EXPECT_TRUE(queue.push("c", 3));
}

TEST(FairQueue, KeepsItsFrontUntilThatIsTaken) {
  FairQueue<int> queue(8);
  queue.push("a", 1);
  EXPECT_EQ(queue.front(), 1);
  queue.push("b", 2);
  EXPECT_EQ(queue.front(), 1);
}

TEST(FairQueue, RemovesFromTheMiddle) {
  FairQueue<int> queue(8);
  for (int item = 0; item < 4; ++item) queue.push(item % 2 == 0 ? "even" : "odd", item);
  EXPECT_EQ(queue.remove_if([](int item) { return item >= 2; }), (std::vector<int>{2, 3}));
  EXPECT_EQ(queue.size(), 2U);
  EXPECT_EQ(drain(queue), (std::vector<int>{0, 1}));
}

}  // namespace
}  // namespace baton::serve
