#include "cli/plan_flags.h"

#include <gtest/gtest.h>

#include <format>

namespace baton::cli {
namespace {

constexpr std::uint32_t kModelLayers = 8;
const plan::NodeRef kSelf{"me", "", std::string(64, 'f')};

std::string address(char key) { return "192.0.2.7:8771#" + std::string(64, key); }

// The plan's text, or the error's.
std::string outcome(const PlanFlags& flags) {
  const auto plan = flags.plan_for(kModelLayers, kSelf);
  return plan ? plan->to_string() : plan.error().to_string();
}

void expect_error(const PlanFlags& flags, std::string_view text) {
  const auto plan = flags.plan_for(kModelLayers, kSelf);
  ASSERT_FALSE(plan) << plan->to_string();
  EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(plan.error().message.find(text), std::string::npos) << plan.error().message;
}

TEST(ParsePeer, ReadsNameAddressAndKey) {
  const plan::NodeRef peer = parse_peer("spark=192.0.2.7:8771#" + std::string(64, 'a')).value();
  EXPECT_EQ(peer, (plan::NodeRef{"spark", "192.0.2.7:8771", std::string(64, 'a')}));
  EXPECT_EQ(parse_peer("six=[2001:db8::1]:80#" + std::string(64, '0')).value().address, "[2001:db8::1]:80");
}

TEST(ParsePeer, RefusesNamesThatAPlanCouldNotHold) {
  for (const std::string_view name : {"", "local", "a,b", "a:b", "a;b"}) {
    const auto peer = parse_peer(std::format("{}={}", name, address('a')));
    ASSERT_FALSE(peer) << name;
    EXPECT_EQ(peer.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(ParsePeer, RefusesWhatHasNoAddressOrNoKey) {
  for (const std::string_view text : {"spark", "spark=", "spark=host", "spark=host:8771", "spark=host:8771#abc"}) {
    EXPECT_FALSE(parse_peer(text)) << text;
  }
}

TEST(PlanFlags, ChooseThisNodeAloneByDefault) {
  EXPECT_EQ(outcome({}), "prefill=local:0-8;decode=local:0-8");
  // A peer that no flag gives work to gets none.
  EXPECT_EQ(outcome({.peers = {"A=" + address('a')}}), "prefill=local:0-8;decode=local:0-8");
}

TEST(PlanFlags, LetAPeerReadThePromptOrItsFirstLayers) {
  const std::vector<std::string> peers = {"A=" + address('a')};
  EXPECT_EQ(outcome({.peers = peers, .prefill_on = "A"}), "prefill=A:0-8;decode=local:0-8");
  EXPECT_EQ(outcome({.peers = peers, .prefill_on = "A", .split = 5}), "prefill=A:0-5,local:5-8;decode=local:0-8");
  EXPECT_EQ(outcome({.peers = peers, .prefill_on = "A", .split = 8}), "prefill=A:0-8;decode=local:0-8");
}

TEST(PlanFlags, TakeAnAddressInPlaceOfAName) {
  const PlanFlags flags{.prefill_on = address('a')};
  EXPECT_EQ(outcome(flags), "prefill=peer:0-8;decode=local:0-8");
  EXPECT_EQ(flags.plan_for(kModelLayers, kSelf).value().nodes.back().fingerprint, std::string(64, 'a'));
  expect_error({.peers = {"peer=" + address('b')}, .prefill_on = address('a')}, "cannot be called 'peer'");
}

TEST(PlanFlags, TakeAWholePlan) {
  const std::vector<std::string> peers = {"A=" + address('a'), "B=" + address('b')};
  const std::string plan = "prefill=A:0-3,B:3-6,local:6-8;decode=local:0-8";
  EXPECT_EQ(outcome({.peers = peers, .plan = plan}), plan);
  expect_error({.peers = peers, .plan = "prefill=C:0-8;decode=local:0-8"}, "'C'");
}

TEST(PlanFlags, SayWhatIsWrong) {
  const std::vector<std::string> peers = {"A=" + address('a')};
  expect_error({.split = 3}, "--prefill-on");
  expect_error({.peers = peers, .prefill_on = "A", .split = 0}, "from 1 to 8, not 0");
  expect_error({.peers = peers, .prefill_on = "A", .split = 9}, "from 1 to 8, not 9");
  expect_error({.peers = peers, .prefill_on = "B"}, "'B'");
  // An address whose fingerprint was forgotten, as a person sees it.
  expect_error({.prefill_on = "192.0.2.7:8771"}, "--prefill-on '192.0.2.7:8771' is neither host:port#fingerprint");
  expect_error({.peers = {"A=" + address('a'), "A=" + address('b')}}, "'A'");
  expect_error({.peers = {"A=" + address('a'), "B=" + address('a')}}, "'B'");
}

TEST(PlanFlags, DoNotTakeThisMachineForAPeer) {
  expect_error({.prefill_on = address('f')},
               "the fingerprint given for 192.0.2.7:8771 is this machine's own (ffffffffffff...)");
  expect_error({.peers = {"A=" + address('f')}, .plan = "prefill=A:0-8;decode=local:0-8"}, "peer 'A'");
  expect_error({.prefill_on = "me"}, "--prefill-on 'me' is this machine itself");
  expect_error({.prefill_on = "local"}, "this machine itself");
  // Who gives the name to another means that one.
  EXPECT_EQ(outcome({.peers = {"me=" + address('a')}, .prefill_on = "me"}), "prefill=me:0-8;decode=local:0-8");
  // One that the plan does not need harms nobody.
  EXPECT_EQ(outcome({.peers = {"A=" + address('f')}}), "prefill=local:0-8;decode=local:0-8");
}

TEST(PeerTasks, SayWhoDoesWhat) {
  const PlanFlags flags{.peers = {"A=" + address('a'), "B=" + address('b')},
                        .plan = "prefill=A:0-3,B:3-6,local:6-8;decode=A:0-4,local:4-8"};
  EXPECT_EQ(peer_tasks(flags.plan_for(kModelLayers, kSelf).value()),
            (std::vector<std::string>{"A at 192.0.2.7:8771: reads layers 0-3, writes layers 0-4",
                                      "B at 192.0.2.7:8771: reads layers 3-6"}));
  EXPECT_TRUE(peer_tasks(PlanFlags{}.plan_for(kModelLayers, kSelf).value()).empty());
}

}  // namespace
}  // namespace baton::cli
