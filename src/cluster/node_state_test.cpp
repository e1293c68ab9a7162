#include "cluster/node_state.h"

#include <gtest/gtest.h>

namespace baton::cluster {
namespace {

NodeState example() {
  NodeState state;
  state.addresses = {"192.0.2.7:8771"};
  state.devices = {{"CPU", "a processor", 1000, 500}};
  state.models = {{"m.gguf", "abc", 0, 16, 32, 4096}};
  return state;
}

TEST(NodeState, IsSentInSectionsAndOnlyWhereItChanged) {
  StateLog log;
  StateView view;
  NodeState state = example();
  EXPECT_EQ(log.update(state).sections.size(), 6u);
  ASSERT_TRUE(view.take(log.all()));
  EXPECT_EQ(view.state(), state);
  EXPECT_TRUE(log.update(state).sections.empty());
  state.load.transfers = 3;
  const State changed = log.update(state);
  ASSERT_EQ(changed.sections.size(), 1u);
  EXPECT_EQ(changed.sections[0].name, "load");
  ASSERT_TRUE(view.take(changed));
  EXPECT_EQ(view.state(), state);
}

TEST(NodeState, AnOlderSectionChangesNothing) {
  StateLog log;
  StateView view;
  NodeState state = example();
  const State first = log.update(state);
  state.load.transfers = 3;
  ASSERT_TRUE(view.take(log.update(state)));
  ASSERT_TRUE(view.take(first));
  EXPECT_EQ(view.state().load.transfers, 3u);
}

TEST(NodeState, UnknownSectionsAndMembersAreLeftOut) {
  StateView view;
  EXPECT_TRUE(view.take({{{"weather", 1, "{}"}, {"load", 1, R"({"transfers":2,"mood":"good"})"}}}));
  EXPECT_EQ(view.state().load.transfers, 2u);
}

TEST(NodeState, WhatAPeerSaysIsBoundedAndPrintable) {
  StateLog log;
  StateView view;
  NodeState state;
  state.addresses.assign(100, "192.0.2.7:8771");
  state.devices.assign(30, {"GPU", std::string(1000, 'x'), 1000, 500});
  ASSERT_TRUE(view.take(log.update(state)));
  EXPECT_EQ(view.state().addresses.size(), 16u);
  ASSERT_EQ(view.state().devices.size(), 16u);
  EXPECT_EQ(view.state().devices[15].description, std::string(256, 'x'));
  EXPECT_EQ(view.state().devices[15].free_bytes, 500u);
  // What a terminal would obey, or show as something else.
  ASSERT_TRUE(view.take({{{"models", 9, R"([{"name":"m\u001b[2J\n\u202e.gguf","digest":"abc"}])"}}}));
  ASSERT_EQ(view.state().models.size(), 1u);
  EXPECT_EQ(view.state().models[0].name, "m?[2J????.gguf");
  EXPECT_EQ(view.state().models[0].digest, "abc");
}

TEST(NodeState, MalformedJsonIsTheProtocolBroken) {
  StateView view;
  for (const char* json : {"", "{", "[]", R"({"transfers":-1})", R"({"transfers":"x"})"}) {
    const auto taken = view.take({{{"load", 1, json}}});
    ASSERT_FALSE(taken) << json;
    EXPECT_EQ(taken.error().code, ErrorCode::kProtocol);
  }
}

}  // namespace
}  // namespace baton::cluster
