// What a sequence may go on from: cells that were added, forgotten or copied, and states.
#include "engine/sequence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/test_model.h"

namespace baton::engine {
namespace {

using test::make_engine;
using test::reference_model;
using test::reserve;
using test::run_chunks;
using test::small_options;
using test::some_tokens;

TEST(Sequence, GrowsAndShrinksWhereItLies) {
  const auto engine = make_engine(reference_model("golden/llama-dense"), small_options());
  const auto tokens = some_tokens(*engine, 700);
  Sequence whole = reserve(*engine, 700);
  const auto expected = run_chunks(*engine, whole, tokens, 100);
  whole = Sequence();
  Sequence sequence = reserve(*engine, 200);
  auto rows = run_chunks(*engine, sequence, std::span(tokens).first(200), 100);
  {
    const Sequence neighbour = reserve(*engine, 300);
    EXPECT_EQ(engine->resize(sequence, 700).error().code, ErrorCode::kNoCapacity);
    EXPECT_EQ(sequence.capacity(), 256U);
  }
  ASSERT_TRUE(engine->resize(sequence, 700));
  const auto rest = run_chunks(*engine, sequence, std::span(tokens).subspan(200), 100, 200);
  rows.insert(rows.end(), rest.begin(), rest.end());
  EXPECT_EQ(rows, expected);
  ASSERT_TRUE(engine->resize(sequence, 257));
  EXPECT_EQ(engine->free_cells(), engine->options().context_tokens - 512);
}

// A peer's rows may hold anything, and a prefix of them may be all that is used.
TEST(Sequence, WhatIsForgottenNeverMeetsAttention) {
  const auto engine = make_engine(reference_model("golden/llama-dense"), small_options());
  const auto tokens = some_tokens(*engine, 90);
  Sequence clean = reserve(*engine, 90);
  const auto expected = run_chunks(*engine, clean, tokens, 45);
  Sequence sequence = reserve(*engine, 90);
  run_chunks(*engine, sequence, tokens, 45);
  for (std::uint32_t layer = 0; layer < engine->shape().layer_count; ++layer) {
    const KvLayout& layout = engine->kv_layout(layer);
    const Bytes poison(std::size_t{200} * std::max(layout.k_row_bytes, layout.v_row_bytes), std::byte{0x7e});
    const auto rows = [&](std::uint32_t bytes) { return std::span(poison).first(std::size_t{200} * bytes); };
    ASSERT_TRUE(engine->write_kv(sequence, layer, 45, 200, rows(layout.k_row_bytes), rows(layout.v_row_bytes)));
  }
  engine->forget_from(sequence, 45);
  const auto rest = run_chunks(*engine, sequence, std::span(tokens).subspan(45), 45, 45);
  const std::vector<float> wanted(expected.end() - static_cast<std::ptrdiff_t>(rest.size()), expected.end());
  EXPECT_EQ(rest, wanted);
}

TEST(Sequence, GoesOnOnlyFromWhereAStateStands) {
  const auto engine = make_engine(reference_model("tiny/granitehybrid"), small_options());
  const auto tokens = some_tokens(*engine, 40);
  Sequence sequence = reserve(*engine, 40);
  const auto expected = run_chunks(*engine, sequence, std::span(tokens).first(32), 16);
  EXPECT_EQ(engine->state_position(sequence, 0), 32U);
  EXPECT_EQ(engine->state_position(sequence, 2), std::nullopt) << "this layer has heads";
  for (const std::uint32_t position : {16U, 31U, 33U}) {
    const BatchSpan span{.sequence = &sequence, .first_position = position, .token_count = 1};
    const Batch batch{.layers = {0, 5}, .spans = {&span, 1}, .tokens = std::span(tokens).first(1), .hidden = {}};
    const auto refused = engine->forward(batch, {});
    ASSERT_FALSE(refused) << position;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().message.find("state of 32 tokens"), std::string::npos) << refused.error().message;
  }
  EXPECT_EQ(engine->state_position(sequence, 0), 32U) << "what was refused changes nothing";
  EXPECT_EQ(run_chunks(*engine, sequence, std::span(tokens).first(32), 16), expected) << "position 0 begins anew";

  Sequence other = reserve(*engine, 40);
  EXPECT_FALSE(engine->copy_prefix(sequence, other, 16)) << "its state is further";
  EXPECT_TRUE(engine->copy_prefix(sequence, other, 32));
  Bytes state(engine->shape().layers[0].memory.state_width * sizeof(float));
  EXPECT_TRUE(engine->read_state(sequence, 0, state));
  EXPECT_FALSE(engine->read_state(sequence, 0, std::span(state).first(4)));
  EXPECT_FALSE(engine->read_state(sequence, 2, state));
  EXPECT_FALSE(engine->write_state(other, 0, 257, state)) << "behind the sequence's cells";
}

}  // namespace
}  // namespace baton::engine
