#include "node/prefix_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace baton::node {
namespace {

handoff::Open open_for(std::uint32_t prefix_tokens) {
  handoff::Open open;
  open.model = sha256(std::as_bytes(std::span("model", 5)));
  open.prompt_tokens = 5000;
  open.prefix_tokens = prefix_tokens;
  open.chunk_tokens = 32;
  return open;
}

std::vector<Token> prompt() {
  std::vector<Token> tokens(5000);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

TEST(PrefixNames, NameThePrefixAndThoseBeforeIt) {
  handoff::Open open = open_for(96);
  name_prefixes(open, prompt());
  auto names = named_prefixes(open).value();
  std::ranges::reverse(names);
  const auto tokens = prompt();
  EXPECT_EQ(names, handoff::prefix_names(prefix_context(open), std::span(tokens).first(96), 32));
  EXPECT_TRUE(check_prefixes(open, prompt()));
}

TEST(PrefixNames, FitIntoOneExtension) {
  handoff::Open open = open_for(4992);
  name_prefixes(open, prompt());
  ASSERT_EQ(open.extensions.size(), 1U);
  EXPECT_LE(open.extensions.front().value.size(), 2048U);
  EXPECT_EQ(named_prefixes(open).value().back().tokens, 4992U - 63 * 32);
  EXPECT_TRUE(check_prefixes(open, prompt()));
}

TEST(PrefixNames, NoPrefixHasNoName) {
  EXPECT_TRUE(named_prefixes(open_for(0)).value().empty());
  EXPECT_TRUE(check_prefixes(open_for(0), prompt()));
}

TEST(PrefixNames, APromptMustBeginAsEveryNameSays) {
  handoff::Open open = open_for(96);
  name_prefixes(open, prompt());
  auto other = prompt();
  other[40] = 7;
  EXPECT_EQ(check_prefixes(open, other).error().code, ErrorCode::kInvalidArgument);
  handoff::Open forged = open;
  forged.extensions.front().value.back() ^= std::byte{1};
  EXPECT_EQ(check_prefixes(forged, prompt()).error().code, ErrorCode::kInvalidArgument);
}

TEST(PrefixNames, WhatCannotBeNamesIsRefused) {
  handoff::Open open = open_for(96);
  name_prefixes(open, prompt());
  handoff::Open cut = open;
  cut.extensions.front().value.pop_back();
  EXPECT_EQ(named_prefixes(cut).error().code, ErrorCode::kInvalidArgument);
  handoff::Open too_many = open;
  too_many.extensions.front().value.resize(3 * 32);
  EXPECT_EQ(named_prefixes(too_many).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::node
