// Walks through everything that can happen to a transfer: every order of deliveries and of the nodes' own doings, with
// every fault at every moment, up to a number of faults. Small transfers, real machines, real frames.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <unordered_set>

#include "handoff/state_space_world.h"

namespace baton::handoff {
namespace {

using namespace fixture;
using namespace state_space;

struct Census {
  std::size_t states = 0;
  std::size_t transitions = 0;
  std::size_t ends = 0;
  std::size_t successes = 0;
  std::size_t with_drops = 0;  // of them
};

// From every state, without further faults, the transfer comes to an end.
bool comes_to_an_end(const World& start, std::unordered_set<std::uint64_t>& known, std::string& wrong) {
  constexpr int kPatience = 3000;
  std::vector<std::uint64_t> path;
  World world = start;
  for (int i = 0; i < kPatience; ++i) {
    const std::uint64_t hash = world.hash();
    path.push_back(hash);
    if (known.contains(hash) || world.over()) {
      known.insert(path.begin(), path.end());
      return true;
    }
    world = world.calm_successor();
    if (!world.wrong.empty()) wrong = world.wrong;
  }
  return false;
}

void walk(const Scenario& scenario) {
  const Ground ground(scenario);
  Census census;
  std::unordered_set<std::uint64_t> seen;
  std::unordered_set<std::uint64_t> ending;
  std::vector<World> open = {World(ground)};
  seen.insert(open.front().hash());
  while (!open.empty()) {
    const World world = std::move(open.back());
    open.pop_back();
    ++census.states;
    ASSERT_EQ(world.wrong, "") << scenario.name;
    std::string wrong;
    ASSERT_TRUE(comes_to_an_end(world, ending, wrong)) << scenario.name << ": a state from which there is no end";
    ASSERT_EQ(wrong, "") << scenario.name;
    if (world.over()) {
      ++census.ends;
      ASSERT_TRUE(world.succeeded() || !world.mendable())
          << scenario.name << ": a transfer that should have been mended ended: " << world.ending;
      census.successes += world.succeeded() ? 1 : 0;
      census.with_drops += world.succeeded() && world.dropped_some() ? 1 : 0;
      continue;
    }
    for (World& next : world.successors()) {
      ++census.transitions;
      if (seen.insert(next.hash()).second) open.push_back(std::move(next));
    }
  }
  std::printf(
      "%s: %d faults at most, %zu states, %zu transitions, %zu ends, %zu of them with all that is needed, %zu of "
      "these without what may be dropped\n",
      scenario.name, scenario.faults, census.states, census.transitions, census.ends, census.successes,
      census.with_drops);
  EXPECT_GT(census.successes, 0u);
  EXPECT_EQ(census.with_drops > 0, scenario.window > 0);
  EXPECT_GT(census.successes, census.with_drops);
}

// BATON_FAULTS walks deeper, or less deep, than CI does.
int faults_or(int usual) {
  const char* asked = std::getenv("BATON_FAULTS");
  return asked == nullptr ? usual : std::atoi(asked);
}

TEST(StateSpace, OneChunkSurvivesTwoFaultsAtAnyMoment) { walk({"one chunk", kSmallJoint, 2, 0, faults_or(2)}); }

TEST(StateSpace, TwoChunksSurviveAFaultAtAnyMoment) { walk({"two chunks", kSmallJoint, 4, 0, faults_or(1)}); }

TEST(StateSpace, AFullWindowSurvivesAFaultAtAnyMoment) { walk({"full window", kDisaggregated, 2, 0, faults_or(1)}); }

// The first chunk of a layer may be dropped, and is where the link is busy.
TEST(StateSpace, AWindowSurvivesAFaultAtAnyMoment) { walk({"a window", kJoint, 4, 0, faults_or(1), 2}); }

TEST(StateSpace, DecodeStepsSurviveTwoFaultsAtAnyMoment) { walk({"decode steps", kPooled, 2, 2, faults_or(2)}); }

}  // namespace
}  // namespace baton::handoff
