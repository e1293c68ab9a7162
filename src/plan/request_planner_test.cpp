#include "plan/request_planner.h"

#include <gtest/gtest.h>

#include "plan/model_shapes.h"

namespace baton::plan {
namespace {

model::ModelShape shape() { return find_model_shape("llama-3.1-8b-f16").value(); }

constexpr TimePoint kStart{};

// A machine that writes fast, one that reads fast, and 10GbE between all.
struct World {
  RequestPlanner planner{shape(), {}};
  std::vector<Machine> machines = {machine("mac", {23.7e12, 1, 606e9}), machine("spark", {90e12, 1, 179e9})};

  static Machine machine(const std::string& name, const Rates& rates) {
    return {.node = {.name = name, .address = name + ":1", .fingerprint = "key of " + name},
            .rates = rates,
            .most_chunk_tokens = 512,
            .free_cells = 1 << 20};
  }
  std::vector<Link> links() const {
    std::vector<Link> all;
    for (std::uint16_t from = 0; from < machines.size(); ++from) {
      for (std::uint16_t to = 0; to < machines.size(); ++to) {
        if (from != to) all.push_back({from, to, 0.0001, 1.18e9});
      }
    }
    return all;
  }
  Decision decide(std::uint32_t prompt_tokens, std::uint32_t output_tokens, TimePoint time = kStart) const {
    auto decision = planner.decide(machines, links(), {prompt_tokens, output_tokens}, time);
    EXPECT_TRUE(decision) << decision.error().to_string();
    EXPECT_TRUE(decision->plan.validate(shape().layer_count));
    return *std::move(decision);
  }
};

TEST(RequestPlanner, SharesALongPromptAndKeepsAShortOne) {
  const World world;
  const Decision long_prompt = world.decide(8192, 32);
  EXPECT_EQ(long_prompt.plan.shape(), "joint");
  ASSERT_EQ(long_prompt.plan.nodes.size(), 2u);
  EXPECT_EQ(long_prompt.plan.nodes[0].name, kLocalName);
  EXPECT_EQ(long_prompt.plan.nodes[1], world.machines[1].node);
  EXPECT_EQ(long_prompt.plan.prefill[0].node, 1);
  EXPECT_LT(long_prompt.prediction.total_s, 2.3);
  EXPECT_EQ(world.decide(16, 32).plan, [] {
    Plan local = Plan::single(32);
    local.nodes[0].fingerprint = "key of mac";
    return local;
  }());
}

TEST(RequestPlanner, KeepsARequestThatWouldGainLittle) {
  World world;
  // As fast as this one: two read half of the prompt each, but over a link that eats most of that.
  world.machines[1] = World::machine("twin", {23.7e12, 1, 606e9});
  std::vector<Link> links = world.links();
  for (Link& link : links) link.bytes_per_second = 3e7;
  const auto decision = world.planner.decide(world.machines, links, {512, 32}, kStart);
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->plan.shape(), "single");
  EXPECT_EQ(decision->plan.nodes.size(), 1u);
}

// What a request that has lost a machine asks: the rest of its text, with what is known by now.
TEST(RequestPlanner, PlansTheRestOfATextWithTheMachinesThatAreLeft) {
  World world;
  world.machines.push_back(World::machine("other spark", {80e12, 1, 179e9}));
  Wish rest{.prompt_tokens = 8192, .most_output_tokens = 32, .output_tokens = 20, .without = {"key of spark"}};
  const auto others = world.planner.decide(world.machines, world.links(), rest, kStart);
  ASSERT_TRUE(others);
  ASSERT_EQ(others->plan.nodes.size(), 2u);
  EXPECT_EQ(others->plan.nodes[1].name, "other spark");
  EXPECT_EQ(others->expected_tokens, 20);
  // Where most of it is here already, nobody else is worth asking.
  world.machines[0].kept_tokens = 8000;
  EXPECT_EQ(world.planner.decide(world.machines, world.links(), rest, kStart)->plan.nodes.size(), 1u);
}

TEST(RequestPlanner, AsksOnlyMachinesThatCan) {
  for (const auto& disable :
       {+[](Machine& machine) { machine.free_cells = 4096; },
        +[](Machine& machine) { machine.most_chunk_tokens = 256; }, +[](Machine& machine) { machine.rates = {}; }}) {
    World world;
    disable(world.machines[1]);
    EXPECT_EQ(world.decide(8192, 32).plan.nodes.size(), 1u);
  }
  World world;
  const Wish wish{.prompt_tokens = 8192, .most_output_tokens = 32, .without = {"key of spark"}};
  EXPECT_EQ(world.planner.decide(world.machines, world.links(), wish, kStart)->plan.nodes.size(), 1u);
  World apart;
  EXPECT_EQ(apart.planner.decide(apart.machines, {}, {8192, 32}, kStart)->plan.nodes.size(), 1u);
}

TEST(RequestPlanner, RefusesWithoutThisMachinesRates) {
  World world;
  world.machines[0].rates = {};
  EXPECT_FALSE(world.planner.decide(world.machines, world.links(), {512, 32}, kStart));
  EXPECT_FALSE(world.planner.decide({}, {}, {512, 32}, kStart));
}

TEST(RequestPlanner, CountsWhatItHasPromised) {
  World world;
  const Decision first = world.decide(65536, 32);
  const std::uint64_t number = world.planner.begin(first, kStart);
  const double promised = world.planner.promised_s("key of spark", kStart);
  EXPECT_NEAR(promised, first.prediction.prefill_s, 1e-6);
  EXPECT_NEAR(world.planner.promised_s("key of spark", kStart + std::chrono::seconds(1)), promised - 1, 1e-6);
  const Decision second = world.decide(8192, 32);
  EXPECT_GT(second.prediction.total_s, world.decide(8192, 32, kStart + std::chrono::hours(1)).prediction.total_s);
  world.planner.prefilled(number);
  EXPECT_EQ(world.planner.promised_s("key of spark", kStart), 0);
  EXPECT_EQ(world.planner.running(), 1u);
  world.planner.finish(number, {});
  EXPECT_EQ(world.planner.running(), 0u);
  world.planner.finish(number, {});  // twice is once
}

TEST(RequestPlanner, KeepsAwayFromAMachineThatOthersKeepBusy) {
  World world;
  world.machines[1].queue_s = 100;
  EXPECT_EQ(world.decide(8192, 32).plan.nodes.size(), 1u);
}

// The machine that reads for us turns out to be slower than it measured: it is asked for less and less.
TEST(RequestPlanner, LearnsWhatAMachineReallyTakes) {
  World world;
  const auto run = [&] {
    const Decision decision = world.decide(8192, 32);
    const auto number = world.planner.begin(decision, kStart);
    const double slowdown = decision.plan.nodes.size() > 1 ? 3 : 1;
    const double factor = world.planner.prefill_factor("key of spark", kStart);
    // What it takes does not change because somebody predicts it better.
    const double took = decision.plan.nodes.size() > 1 ? decision.prediction.first_token_s * slowdown / factor
                                                       : decision.prediction.first_token_s;
    world.planner.finish(number, {.first_token_s = took, .decode_s = decision.prediction.decode_s, .new_tokens = 32});
    return decision.plan.nodes.size();
  };
  EXPECT_EQ(run(), 2u);
  for (int request = 0; request < 40; ++request) run();
  EXPECT_GT(world.planner.prefill_factor("key of spark", kStart), 1.5);
  EXPECT_NEAR(world.planner.prefill_factor("key of mac", kStart), 1, 0.01);
  EXPECT_NEAR(world.planner.decode_factor("key of mac", kStart), 1, 0.2);
}

// It was planned as if it ran alone; then another came, which takes turns with it, and may have gone by its end.
TEST(RequestPlanner, LearnsLittleFromARequestThatAnotherCameBeside) {
  const auto factor_after = [](int others) {
    World world;
    const Decision decision = world.decide(8192, 32);
    EXPECT_FALSE(decision.others_ran);
    const auto number = world.planner.begin(decision, kStart);
    for (int other = 0; other < others; ++other) {
      world.planner.finish(world.planner.begin(world.decide(16, 32), kStart), {});
    }
    EXPECT_EQ(world.planner.is_crowded(number), others > 0);
    const Prediction& predicted = decision.prediction;
    world.planner.finish(
        number, {.first_token_s = 2 * predicted.first_token_s, .decode_s = predicted.decode_s, .new_tokens = 32});
    return world.planner.prefill_factor("key of spark", kStart);
  };
  const double alone = factor_after(0);
  const double crowded = factor_after(1);
  EXPECT_GT(crowded, 1);
  EXPECT_GT(alone - 1, 4 * (crowded - 1));
}

TEST(RequestPlanner, LearnsNothingFromARequestThatWasRecovered) {
  World world;
  const auto number = world.planner.begin(world.decide(8192, 32), kStart);
  world.planner.finish(number, {.first_token_s = 100, .decode_s = 100, .new_tokens = 32, .recovered = true});
  EXPECT_EQ(world.planner.prefill_factor("key of spark", kStart), 1);
}

TEST(RequestPlanner, ExpectsAnswersAsLongAsTheyHaveBeen) {
  World world;
  EXPECT_EQ(world.decide(512, 1 << 20).expected_tokens, 128);
  EXPECT_EQ(world.decide(512, 7).expected_tokens, 7);
  for (int request = 0; request < 60; ++request) {
    const auto number = world.planner.begin(world.decide(16, 4096), kStart);
    world.planner.finish(number, {.first_token_s = 1, .decode_s = 1, .new_tokens = 1000});
  }
  EXPECT_NEAR(world.decide(512, 4096).expected_tokens, 1000, 5);
}

TEST(RequestPlanner, PlansForManyMachinesQuickly) {
  World world;
  for (int index = 0; index < 60; ++index) {
    world.machines.push_back(World::machine("m" + std::to_string(index), {1e12 * (1 + index), 1, 100e9}));
  }
  const Decision decision = world.decide(8192, 32);
  EXPECT_EQ(decision.cluster.devices.size(), RequestPlanner::kMostMachines);
  EXPECT_EQ(decision.cluster.devices[0].name, "mac");
  EXPECT_EQ(decision.cluster.devices[1].name, "spark");
}

TEST(RequestPlanner, PredictsItsOwnChoiceAsItChoseIt) {
  const World world;
  const Decision chosen = world.decide(8192, 32);
  const auto predicted = world.planner.predict(world.machines, world.links(), {8192, 32}, chosen.plan, kStart);
  ASSERT_TRUE(predicted) << predicted.error().to_string();
  EXPECT_DOUBLE_EQ(predicted->prediction.total_s, chosen.prediction.total_s);
  const auto alone = world.planner.predict(world.machines, world.links(), {8192, 32}, Plan::single(32), kStart);
  ASSERT_TRUE(alone) << alone.error().to_string();
  EXPECT_GT(alone->prediction.total_s, chosen.prediction.total_s);
}

TEST(RequestPlanner, PredictsNothingOfAMachineThatNobodyKnows) {
  const World world;
  const std::vector<NodeRef> peers = {{"stranger", "192.0.2.9:1", "key of stranger"}};
  const Plan plan = parse_plan("prefill=stranger:0-32;decode=local:0-32", peers, 32).value();
  const auto predicted = world.planner.predict(world.machines, world.links(), {8192, 32}, plan, kStart);
  ASSERT_FALSE(predicted);
  EXPECT_EQ(predicted.error().code, ErrorCode::kNotFound);
}

TEST(RequestPlanner, PlansAnAnswerOfAKnownLengthForThatLength) {
  const World world;
  const auto decision = world.planner.decide(
      world.machines, world.links(), {.prompt_tokens = 512, .most_output_tokens = 400, .output_tokens = 300}, kStart);
  ASSERT_TRUE(decision);
  EXPECT_EQ(decision->expected_tokens, 300);
}

}  // namespace
}  // namespace baton::plan
