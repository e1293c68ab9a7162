#include "serve/body_room.h"

#include <gtest/gtest.h>

#include <utility>

namespace baton::serve {
namespace {

TEST(BodyRoom, IsFullUntilAShareEnds) {
  BodyRoom room(100);
  auto first = room.take(60);
  ASSERT_TRUE(first);
  EXPECT_FALSE(room.take(41));
  auto second = room.take(40);
  ASSERT_TRUE(second);
  EXPECT_FALSE(room.take(1));
  first.reset();
  EXPECT_TRUE(room.take(60));
}

TEST(BodyRoom, GivesPlaceToWhatIsLargerAlone) {
  BodyRoom room(100);
  auto large = room.take(1000);
  ASSERT_TRUE(large);
  EXPECT_FALSE(room.take(1));
  large.reset();
  const auto small = room.take(1);
  ASSERT_TRUE(small);
  EXPECT_FALSE(room.take(1000));
}

TEST(BodyRoom, TakesBackWhatWasNotNeeded) {
  BodyRoom room(100);
  auto share = room.take(100);
  ASSERT_TRUE(share);
  share->shrink_to(200);
  EXPECT_FALSE(room.take(1));
  share->shrink_to(30);
  auto other = room.take(70);
  ASSERT_TRUE(other);
  EXPECT_FALSE(room.take(1));
  share.reset();
  other.reset();
  EXPECT_TRUE(room.take(100));
}

TEST(BodyRoom, CountsAShareOnceWhereverItGoes) {
  BodyRoom::Share kept;
  {
    BodyRoom room(100);
    auto taken = room.take(100);
    ASSERT_TRUE(taken);
    kept = *std::move(taken);
    taken.reset();
    EXPECT_FALSE(room.take(1));
    const BodyRoom::Share moved = std::move(kept);
    EXPECT_FALSE(room.take(1));
  }
  // The room is gone, and what is left of it may end.
  kept = {};
}

}  // namespace
}  // namespace baton::serve
