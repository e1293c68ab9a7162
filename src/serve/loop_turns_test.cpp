#include "serve/loop_turns.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace baton::serve {
namespace {

class LoopTurnsOfThree : public testing::Test {
 protected:
  Result<void> take(const std::string& client) {
    return turns_.take(client, [this, client] { begun_.push_back(client); });
  }

  LoopTurns turns_{{.waiting = 5, .waiting_of_one_client = 3}};
  std::vector<std::string> begun_;
};

TEST_F(LoopTurnsOfThree, ComeOneAfterTheOtherClientByClient) {
  for (const char* client : {"a", "a", "a", "b"}) ASSERT_TRUE(take(client));
  EXPECT_EQ(begun_, std::vector<std::string>{"a"});
  for (int turn = 0; turn < 4; ++turn) turns_.end();
  EXPECT_EQ(begun_, (std::vector<std::string>{"a", "a", "b", "a"}));
  ASSERT_TRUE(take("c"));
  EXPECT_EQ(begun_.back(), "c");
}

TEST_F(LoopTurnsOfThree, AreRefusedWhereTooManyWait) {
  for (int turn = 0; turn < 4; ++turn) ASSERT_TRUE(take("a"));  // the first has begun
  const auto greedy = take("a");
  ASSERT_FALSE(greedy);
  EXPECT_EQ(greedy.error().code, ErrorCode::kNoCapacity);
  // There is room for others still.
  ASSERT_TRUE(take("b"));
  ASSERT_TRUE(take("c"));
  EXPECT_EQ(take("d").error().code, ErrorCode::kNoCapacity);
  turns_.end();
  EXPECT_TRUE(take("d"));
}

TEST_F(LoopTurnsOfThree, MayEndAsSoonAsTheyBegin) {
  ASSERT_TRUE(take("a"));
  for (int turn = 0; turn < 3; ++turn) {
    ASSERT_TRUE(turns_.take("gone", [this] {
      begun_.push_back("gone");
      turns_.end();
    }));
  }
  ASSERT_TRUE(take("b"));
  turns_.end();
  EXPECT_EQ(begun_, (std::vector<std::string>{"a", "gone", "b"}));
  turns_.end();
  EXPECT_EQ(begun_.size(), 5U);
}

}  // namespace
}  // namespace baton::serve
