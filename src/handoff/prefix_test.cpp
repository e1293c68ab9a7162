#include "handoff/prefix.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/bytes.h"

namespace baton::handoff {
namespace {

const PrefixContext kContext = {sha256(as_byte_span("model")), "neox/10000", "f16", "exact"};

std::vector<Token> tokens(int count) {
  std::vector<Token> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 5);
  return all;
}

// Independent of the implementation: computed with Python's hashlib from the definition in prefix.h.
TEST(PrefixNames, AreTheChainOfTheDefinition) {
  const auto names = prefix_names(kContext, tokens(5), 2);
  ASSERT_EQ(names.size(), 2u);
  EXPECT_EQ(names[0].tokens, 2u);
  EXPECT_EQ(names[0].name.hex(), "b326a4ebdf8e2a1903ba452b25e0ff20ad6c110db4afef39b8bebde352f75bb7");
  EXPECT_EQ(names[1].tokens, 4u);
  EXPECT_EQ(names[1].name.hex(), "67ff556cfb0ab80d8551628ec2835264fc0d85bf6e21f3ad45402e767e0722bd");
}

TEST(PrefixNames, AgreeExactlyAsFarAsThePromptsDo) {
  auto other = tokens(12);
  other[9] += 1;
  const auto a = prefix_names(kContext, tokens(12), 4);
  const auto b = prefix_names(kContext, other, 4);
  ASSERT_EQ(a.size(), 3u);
  EXPECT_EQ(a[0], b[0]);
  EXPECT_EQ(a[1], b[1]);
  EXPECT_NE(a[2], b[2]);
}

TEST(PrefixNames, DependOnEverythingThatDecidesKv) {
  const auto name = [](const PrefixContext& context) { return prefix_names(context, tokens(4), 4)[0].name; };
  std::vector<PrefixContext> contexts(5, kContext);
  contexts[1].model = sha256(as_byte_span("another"));
  contexts[2].rope = "neox/500000";
  contexts[3].cache_type = "q8_0";
  contexts[4].provenance = "q8_0";
  for (std::size_t i = 1; i < contexts.size(); ++i) EXPECT_NE(name(contexts[i]), name(kContext)) << i;
  // Fields cannot run into each other.
  PrefixContext shifted = kContext;
  shifted.rope += shifted.cache_type;
  shifted.cache_type.clear();
  EXPECT_NE(name(shifted), name(kContext));
}

TEST(PrefixNames, LeaveOutAnUnfinishedChunk) {
  EXPECT_TRUE(prefix_names(kContext, tokens(3), 4).empty());
  EXPECT_EQ(prefix_names(kContext, tokens(7), 4).size(), 1u);
  EXPECT_TRUE(prefix_names(kContext, {}, 4).empty());
}

}  // namespace
}  // namespace baton::handoff
