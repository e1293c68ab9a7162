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
