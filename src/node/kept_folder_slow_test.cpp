// Kept texts on a disk that takes its time: nobody waits for it longer than it is worth.
#include <gtest/gtest.h>

#include <thread>

#include "node/kept_texts_fixture.h"

namespace baton::node {
namespace {

TEST_F(KeptTexts, WhatIsNotWrittenInTimeIsGivenUpThoughTheDiskHangs) {
  for (const std::uint32_t seed : {1U, 2U}) keep(text(200, seed));
  const SlowWriting disk = begin_writing(text(200, 9), KeptFolder::UsedAt::clock::now());
  LastWrites last = cache_->write_all(now() + std::chrono::milliseconds(20));
  EXPECT_LT(engine_->free_cells(), 4 * kBlock);
  last.wait();
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock) << "nobody reads there any more";
  disk.go_on->set_value();
  settle();
  EXPECT_EQ(files().size(), 1U) << "the one that was under way";
}

TEST_F(KeptTexts, TheEndDoesNotWaitForADiskThatDoesNotRead) {
  keep(text(200, 1));
  stop();
  start();
  auto disk = begin_reading();
  const auto reading = read_back(text(201, 1));
  keep(text(200, 2));
  const TimePoint began = now();
  cache_->write_all(began + std::chrono::minutes(1)).wait();
  EXPECT_LT(now() - began, std::chrono::seconds(50));
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(files().size(), 2U);
  disk.set_value();
  settle();
}

TEST_F(KeptTexts, OneThatIsBeingWrittenGoesForOneThatWasUsedAfterIt) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  start(one + one / 2);
  const SlowWriting first = begin_writing(text(200, 2), KeptFolder::UsedAt::clock::now());
  EXPECT_EQ(folder_->bytes(), one) << "the text that was there has gone for it";
  const auto later = KeptFolder::UsedAt::clock::now();
  EXPECT_FALSE(folder_->has_place_for(one, later - std::chrono::hours(1)));
  ASSERT_TRUE(folder_->has_place_for(one, later));
  const SlowWriting second = begin_writing(text(200, 3), later);
  EXPECT_EQ(folder_->bytes(), one);
  first.go_on->set_value();
  second.go_on->set_value();
  settle();
  EXPECT_EQ((*first.result)->error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(**second.result);
  ASSERT_EQ(files().size(), 1U);
  EXPECT_EQ(files().front().filename().string(), second.name);
  EXPECT_EQ(folder_->bytes(), one);
}

TEST_F(KeptTexts, ATextIsListedOnceThoughItIsWrittenTwiceAtOnce) {
  const SlowWriting first = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  const SlowWriting second = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  first.go_on->set_value();
  second.go_on->set_value();
  settle();
  EXPECT_TRUE(**second.result);
  EXPECT_EQ(folder_->texts_of(digest_).size(), 1U);
  EXPECT_EQ(folder_->bytes(), size_of_one());
  folder_->forget(digest_);
  EXPECT_EQ(folder_->bytes(), 0U);
}

TEST_F(KeptTexts, OneOfARemovedModelIsNotWrittenToItsEnd) {
  const SlowWriting writing = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  folder_->forget(digest_);
  writing.go_on->set_value();
  settle();
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(folder_->bytes(), 0U);
}

TEST_F(KeptTexts, OneThatIsNotReadInTimeIsGivenUpThoughTheDiskHangs) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  const auto use = std::make_shared<char>();
  const auto reading = cache_->read_back(need(901), text(901), use, now());
  ASSERT_FALSE(reading->ended);
  EXPECT_EQ(engine_->free_cells(), 0U);
  const auto until = cache_->end_late_readings(now());
  ASSERT_TRUE(until);
  EXPECT_LE(*until - now(), std::chrono::minutes(1)) << "an answer waits twice as long for room";
  EXPECT_FALSE(reading->ended);
  EXPECT_FALSE(cache_->end_late_readings(*until));
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(use.use_count(), 1);
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock) << "there is room to compute it";
  EXPECT_TRUE(read_back(text(901))->ended) << "nobody else waits for that disk";
  disk.set_value();
  settle();
  EXPECT_EQ(cache_->cells(), 0U) << "it came too late";
  EXPECT_EQ(take_from_disk(text(901))->held().tokens, 900U) << "now the disk reads again";
}

TEST_F(KeptTexts, OneThatNobodyWaitsForAnyMoreIsNotRead) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  auto reading = read_back(text(901));
  ASSERT_FALSE(reading->ended);
  reading.reset();
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock);
  disk.set_value();
  settle();
  EXPECT_EQ(cache_->cells(), 0U);
  EXPECT_EQ(take_from_disk(text(901))->held().tokens, 900U) << "the file is as good as before";
}

TEST_F(KeptTexts, NothingIsReadIntoAnEngineThatGoes) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  const auto reading = read_back(text(901));
  ASSERT_FALSE(reading->ended);
  cache_.reset();
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock);
  disk.set_value();
  settle();
}

TEST_F(KeptTexts, OneThatGoesWhileItIsReadIsReadToItsEnd) {
  keep(text(900));
  stop();
  start();
  const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
  std::promise<void> begun;
  std::promise<void> removed;
  std::size_t pieces = 0;
  std::optional<Result<void>> result;
  folder_->read(
      shape, folder_->texts_of(digest_).front()->name,
      [&, gone = removed.get_future().share()](const KeptPiece&, ByteSpan) -> Result<void> {
        if (pieces++ == 0) begun.set_value();
        gone.wait();
        return {};
      },
      [&](const Result<void>& read) { result = read; });
  begun.get_future().wait();
  folder_->forget(digest_);
  while (!files().empty()) std::this_thread::yield();
  removed.set_value();
  settle();
  ASSERT_TRUE(result);
  EXPECT_TRUE(*result) << result->error().to_string();
  EXPECT_GT(pieces, 1U);
  EXPECT_EQ(folder_->bytes(), 0U);
}

}  // namespace
}  // namespace baton::node
