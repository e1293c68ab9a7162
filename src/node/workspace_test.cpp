// Slices in and out of a real cache: the same bytes, in every format, and no more buffers than are needed at once.
#include "node/workspace.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/test_model.h"

namespace baton::node {
namespace {

constexpr std::uint32_t kTokens = 32;

class WorkspaceTest : public testing::Test {
 protected:
  void SetUp() override {
    engine_ =
        engine::test::make_engine(engine::test::reference_model("golden/llama-dense"), engine::test::small_options());
    workspace_ = std::make_shared<Workspace>(*engine_);
    ASSERT_TRUE(workspace_->reserve(kTokens));
  }

  // K rows in F16 whose values all differ a little: multiples of 2^-10 between 1 and 2.
  Bytes rows(std::uint32_t width) const {
    std::vector<std::uint16_t> halves(std::size_t{width} * kTokens);
    for (std::size_t index = 0; index < halves.size(); ++index)
      halves[index] = static_cast<std::uint16_t>(0x3c00 | (index * 37 % 1024));
    const auto bytes = std::as_bytes(std::span(halves));
    return {bytes.begin(), bytes.end()};
  }

  std::unique_ptr<engine::Engine> engine_;
  std::shared_ptr<Workspace> workspace_;
};

TEST_F(WorkspaceTest, WhatWasWrittenIsReadBack) {
  const Bytes k = rows(engine_->kv_layout(0).k_width);
  const Bytes v = rows(engine_->kv_layout(0).v_width);
  ASSERT_TRUE(workspace_->write_kv(1, 0, kTokens, handoff::DType::kF16, k, v));
  const auto read = workspace_->kv_rows(1, 0, kTokens, handoff::DType::kF16);
  ASSERT_TRUE(read);
  EXPECT_TRUE(std::ranges::equal((*read)[0], k));
  EXPECT_TRUE(std::ranges::equal((*read)[1], v));
}

TEST_F(WorkspaceTest, SlicesOfAnotherFormatAreConverted) {
  const Bytes k = rows(engine_->kv_layout(0).k_width);
  const Bytes v = rows(engine_->kv_layout(0).v_width);
  ASSERT_TRUE(workspace_->write_kv(0, 0, kTokens, handoff::DType::kF16, k, v));
  const auto coded = workspace_->kv_rows(0, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(coded);
  EXPECT_EQ((*coded)[0].size(), handoff::encoded_size(handoff::DType::kQ8_0, k.size() / 2));
  // Coded once more, the same bytes come out: they were numbers of that format.
  ASSERT_TRUE(workspace_->write_kv(1, 0, kTokens, handoff::DType::kQ8_0, (*coded)[0], (*coded)[1]));
  const auto again = workspace_->kv_rows(1, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(again);
  EXPECT_TRUE(std::ranges::equal((*again)[0], (*coded)[0]));
  EXPECT_TRUE(std::ranges::equal((*again)[1], (*coded)[1]));
}

TEST_F(WorkspaceTest, ABufferServesAgainWhenItWasReleased) {
  const auto first = workspace_->kv_rows(0, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(first);
  const std::byte* const address = (*first)[0].data();
  workspace_->release((*first)[0]);
  const auto second = workspace_->kv_rows(0, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(second);
  EXPECT_EQ((*second)[0].data(), address);
}

TEST_F(WorkspaceTest, ABufferThatIsStillReadServesNobodyElse) {
  const auto first = workspace_->kv_rows(0, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(first);
  const auto reader = workspace_->keep_alive((*first)[1]);
  const Bytes before((*first)[0].begin(), (*first)[0].end());
  workspace_->release((*first)[0]);
  const Bytes k = rows(engine_->kv_layout(0).k_width);
  ASSERT_TRUE(workspace_->write_kv(0, 0, kTokens, handoff::DType::kF16, k, k));
  const auto second = workspace_->kv_rows(0, 0, kTokens, handoff::DType::kQ8_0);
  ASSERT_TRUE(second);
  EXPECT_NE((*second)[0].data(), (*first)[0].data());
  EXPECT_TRUE(std::ranges::equal((*first)[0], before));
}

}  // namespace
}  // namespace baton::node
