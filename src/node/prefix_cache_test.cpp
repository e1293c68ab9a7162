// Kept texts over a real engine: which are found, how far, and which go when room is needed.
#include "node/prefix_cache.h"

#include <gtest/gtest.h>

#include "node/prefix_fixture.h"

namespace baton::node {
namespace {

using engine::test::run_chunks;

class PrefixCacheTest : public PrefixFixture {
 protected:
  void use(const std::string& model, std::uint32_t context_tokens = 4 * kBlock) {
    cache_.reset();
    make_engine(model, context_tokens);
    cache_ = std::make_unique<PrefixCache>(*engine_);
  }
  void SetUp() override { use("golden/llama-dense"); }
  void TearDown() override { cache_.reset(); }

  // As a request would leave it, that had room for more.
  void keep(const std::vector<Token>& tokens, PrefixOrigin origin = {}, std::uint32_t exact_tokens = 0) {
    cache_->keep(workspace_of(tokens, 1), {tokens, all(), std::move(origin), exact_tokens});
  }
  std::shared_ptr<Workspace> take(const std::vector<Token>& prompt, const PrefixNeed& wanted) {
    auto taken = cache_->take(wanted, prompt);
    EXPECT_TRUE(taken) << taken.error().to_string();
    return taken ? *taken : nullptr;
  }
  std::shared_ptr<Workspace> take(const std::vector<Token>& prompt) {
    return take(prompt, need(static_cast<std::uint32_t>(prompt.size())));
  }
  std::uint32_t held(const std::vector<Token>& prompt) { return take(prompt)->held().tokens; }

  std::unique_ptr<PrefixCache> cache_;
};

TEST_F(PrefixCacheTest, GoesOnFromTheLongestCommonBeginning) {
  keep(text(96));
  keep(text(100, 7));
  const auto prompt = joined(text(64), text(30, 3));
  const auto workspace = take(prompt);
  EXPECT_EQ(workspace->held().tokens, 64U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 64)) << "as if it had been computed here";
}

TEST_F(PrefixCacheTest, TheLastTokenOfAPromptIsComputedInAnyCase) {
  keep(text(100));
  EXPECT_EQ(held(text(100)), 99U);
}

TEST_F(PrefixCacheTest, AShortCommonBeginningIsNoneAtAll) {
  keep(text(100));
  EXPECT_EQ(held(joined(text(kLeastPrefixTokens - 1), text(50, 3))), 0U);
  EXPECT_EQ(cache_->cells(), kBlock) << "and the text stays";
}

TEST_F(PrefixCacheTest, WhatWasUsedLongestAgoGoesFirst) {
  keep(text(200, 1));
  keep(text(200, 2));
  keep(text(200, 3));
  for (const std::uint32_t seed : {1U, 2U}) {
    auto again = take(text(201, seed));
    ASSERT_EQ(again->held().tokens, 200U);
    cache_->keep(std::move(again), {text(200, seed), all(), {}, 0});
  }
  EXPECT_EQ(cache_->cells(), 3 * kBlock);
  const auto live = take(text(2 * kBlock, 9));
  EXPECT_EQ(cache_->cells(), 2 * kBlock);
  EXPECT_EQ(cache_->common_tokens(need(1), text(200, 3)), 0U);
  EXPECT_EQ(cache_->common_tokens(need(1), text(200, 1)), 200U);
  EXPECT_EQ(cache_->common_tokens(need(1), text(200, 2)), 200U);
}

TEST_F(PrefixCacheTest, NothingGoesForARequestThatFindsNoRoomAllTheSame) {
  keep(text(200));
  const auto live = take(text(2 * kBlock, 9));
  const auto refused = cache_->take(need(3 * kBlock), text(3 * kBlock, 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(cache_->cells(), kBlock);
}

TEST_F(PrefixCacheTest, ATextMovesWhereItHasNoRoomToGrow) {
  keep(text(192));
  const auto neighbour = take(text(100, 9));
  const auto prompt = text(300);
  const auto workspace = take(prompt);
  EXPECT_EQ(workspace->held().tokens, 192U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 192));
}

TEST_F(PrefixCacheTest, ATextWaitsUntilTheCellsBehindItAreFree) {
  use("golden/llama-dense", 2 * kBlock);
  keep(text(192));
  {
    const auto neighbour = take(text(100, 9));
    EXPECT_EQ(cache_->take(need(300), text(300)).error().code, ErrorCode::kNoCapacity);
  }
  EXPECT_EQ(held(text(300)), 192U);
}

TEST_F(PrefixCacheTest, AConversationWithTheSameBeginningStays) {
  keep(text(200));
  const auto prompt = joined(text(64), text(20, 3));
  const auto workspace = take(prompt);
  EXPECT_EQ(workspace->held().tokens, 64U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 64));
  EXPECT_EQ(held(text(210)), 200U);
}

TEST_F(PrefixCacheTest, NoOtherGoesForACopyThatFindsNoRoomAllTheSame) {
  keep(text(2 * kBlock, 1));
  keep(text(200, 2));
  // Beside the first there are two blocks, and this takes three.
  const auto prompt = joined(text(64, 1), text(2 * kBlock, 3));
  EXPECT_EQ(held(prompt), 64U) << "moved, as it cannot be copied";
  EXPECT_EQ(cache_->common_tokens(need(1), text(200, 2)), 200U) << "and there is room beside it";
}

TEST_F(PrefixCacheTest, NoTextIsKeptBesideOneThatBeginsWithIt) {
  keep(text(100));
  keep(text(200));
  EXPECT_EQ(cache_->cells(), kBlock);
  keep(text(150));
  EXPECT_EQ(cache_->cells(), kBlock);
  EXPECT_EQ(cache_->common_tokens(need(1), text(300)), 200U);
}

TEST_F(PrefixCacheTest, WhatSomebodyStillUsesIsNeitherTakenNorGivenUp) {
  auto workspace = std::make_shared<Workspace>(*engine_);
  ASSERT_TRUE(workspace->reserve(3 * kBlock));
  cache_->keep(workspace, {text(100), all(), {}, 0});
  EXPECT_EQ(held(text(110)), 0U);
  EXPECT_EQ(cache_->cells(), 0U);
  EXPECT_FALSE(cache_->take(need(2 * kBlock), text(2 * kBlock, 5)));
  workspace.reset();
  EXPECT_EQ(cache_->cells(), kBlock) << "room for what was never written is given back";
}

TEST_F(PrefixCacheTest, RowsWithALossAreOnlyForWhoAsksForTheSame) {
  keep(text(100), {.loss = "q8_0 f32", .shape = {}});
  EXPECT_EQ(held(text(110)), 0U);
  PrefixNeed lossy = need(110);
  lossy.origin.loss = "q4_0 f32";
  EXPECT_EQ(take(text(110), lossy)->held().tokens, 0U);
  lossy.origin.loss = "q8_0 f32";
  EXPECT_EQ(take(text(110), lossy)->held().tokens, 100U);
}

TEST_F(PrefixCacheTest, WhoWantsTheSameBitsGetsWholeChunksOfTheSameShape) {
  keep(text(100), {.loss = {}, .shape = "here"}, 64);
  PrefixNeed exact = need(110);
  exact.exactly = true;
  exact.grid = kChunk;
  exact.origin.shape = "elsewhere";
  EXPECT_EQ(take(text(110), exact)->held().tokens, 0U);
  exact.origin.shape = "here";
  const auto workspace = take(text(110), exact);
  EXPECT_EQ(workspace->held().tokens, 64U);
  EXPECT_EQ(workspace->held().exact_tokens, 64U);
  EXPECT_EQ(exact_tokens(workspace->held(), 110, kChunk), 96U) << "what it computes now is so, too";
  EXPECT_EQ(exact_tokens({.tokens = 70, .exact_tokens = 64}, 110, kChunk), 64U) << "behind other rows nothing is";
}

TEST_F(PrefixCacheTest, APeerFindsAPrefixByItsName) {
  keep(text(200));
  const handoff::PrefixContext context{.model = {}, .rope = {}, .cache_type = {}, .provenance = "f16"};
  const auto names = handoff::prefix_names(context, text(200), 64);
  const auto take_named = [&](std::span<const handoff::PrefixName> names_of_it) {
    return cache_->take(need(220), names_of_it, context, 64).value()->held().tokens;
  };
  auto wrong = names;
  for (handoff::PrefixName& name : wrong) name.name.bytes[0] ^= std::byte{1};
  EXPECT_EQ(take_named(wrong), 0U);
  EXPECT_EQ(take_named({}), 0U);
  wrong[1] = names[1];
  EXPECT_EQ(take_named(wrong), 128U);
}

TEST_F(PrefixCacheTest, AWindowIsGoneOnFromOnlyWhereItIs) {
  use("tiny/gemma3", 8 * kBlock);
  const auto long_text = text(900);
  keep(long_text);
  EXPECT_EQ(held(joined(text(400), text(20, 3))), 0U) << "its window has moved past that";
  const auto prompt = joined(text(896), text(20, 3));
  const auto workspace = take(prompt);
  EXPECT_EQ(workspace->held().tokens, 896U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 896));
}

TEST_F(PrefixCacheTest, AStateIsGoneOnFromWhereItStandsOrWasKept) {
  use("tiny/granitehybrid");
  const auto tokens = text(96);
  auto workspace = std::make_shared<Workspace>(*engine_);
  ASSERT_TRUE(workspace->reserve(100));
  run_chunks(*engine_, workspace->sequence(), std::span(tokens).first(64), kChunk);
  ASSERT_TRUE(workspace->states().keep_all(64));
  run_chunks(*engine_, workspace->sequence(), std::span(tokens).subspan(64), kChunk, 64);
  cache_->keep(std::move(workspace), {tokens, all(), {}, 0});

  EXPECT_EQ(held(joined(text(60), text(20, 3))), 0U) << "no state is left from there";
  const auto longer = text(110);
  auto behind = take(longer);
  EXPECT_EQ(behind->held().tokens, 96U);
  EXPECT_EQ(go_on(*behind, longer), expected(longer, 96));
  cache_->keep(std::move(behind), {longer, all(), {}, 0});

  const auto other_end = joined(text(80), text(20, 3));
  const auto back = take(other_end);
  EXPECT_EQ(back->held().tokens, 64U);
  EXPECT_EQ(go_on(*back, other_end), expected(other_end, 64));
}

}  // namespace
}  // namespace baton::node
