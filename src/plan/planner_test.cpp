#include "plan/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

#include "plan/test_clusters.h"

namespace baton::plan {
namespace {

// Every placement there is of the five shapes, pools of more than two devices apart; each is predicted on its own.
class BruteForce {
 public:
  BruteForce(const Cluster& cluster, const model::ModelShape& shape, const Request& request)
      : cluster_(cluster), shape_(shape), request_(request), layers_(shape.layer_count) {}

  void all() {
    const auto count = cluster_.device_count();
    for (DeviceIndex a = 0; a < count; ++a) {
      attempt({{a, {0, layers_}}}, {{a, {0, layers_}}});
      for (DeviceIndex b = 0; b < count; ++b) {
        if (a == b) continue;
        attempt({{a, {0, layers_}}}, {{b, {0, layers_}}});
        for (std::uint32_t split = 1; split < layers_; ++split) {
          const std::vector<DeviceStage> two = {{a, {0, split}}, {b, {split, layers_}}};
          attempt(two, {{b, {0, layers_}}});
          attempt(two, two);
          for (DeviceIndex c = 0; c < count; ++c) {
            if (c == a || c == b) continue;
            attempt(two, {{c, {0, layers_}}});
            for (std::uint32_t end = split + 1; end < layers_; ++end) {
              attempt({{a, {0, split}}, {b, {split, end}}, {c, {end, layers_}}}, {{c, {0, layers_}}});
            }
          }
        }
      }
    }
  }

  void pools_of(std::size_t devices, std::vector<DeviceStage> stages = {}) {
    const std::uint32_t next = stages.empty() ? 0 : stages.back().layers.end;
    if (stages.size() == devices) {
      if (next == layers_) attempt(stages, stages);
      return;
    }
    for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) {
      if (std::ranges::contains(stages, device, &DeviceStage::device)) continue;
      for (std::uint32_t end = next + 1; end <= layers_; ++end) {
        stages.push_back({device, {next, end}});
        pools_of(devices, stages);
        stages.pop_back();
      }
    }
  }

  // Whether a device could serve the request alone if nobody elsewhere coordinated it.
  bool any_fits() const {
    Request alone = request_;
    alone.coordinator = std::nullopt;
    alone.chunk_tokens = {std::ranges::min(request_.chunk_tokens)};
    for (DeviceIndex device = 0; device < cluster_.device_count(); ++device) {
      const std::vector<DeviceStage> whole = {{device, {0, layers_}}};
      if (predict(cluster_, shape_, alone, {whole, whole, {WireCodec::kF16}, alone.chunk_tokens.front()})) return true;
    }
    return false;
  }

  // The least score of each shape.
  std::map<PlanShape, double> least;

 private:
  void attempt(const std::vector<DeviceStage>& prefill, const std::vector<DeviceStage>& decode) {
    for (const std::uint32_t chunk : request_.chunk_tokens) {
      std::vector<WireCodec> codecs(prefill.size(), request_.codecs.front());
      attempt_codecs({prefill, decode, codecs, chunk}, 0);
    }
  }
  void attempt_codecs(Placement placement, std::size_t from) {
    if (from == placement.codecs.size()) {
      const auto prediction = predict(cluster_, shape_, request_, placement);
      if (!prediction) return;
      const auto [at, fresh] = least.emplace(placement.shape(), prediction->score_s());
      if (!fresh) at->second = std::min(at->second, prediction->score_s());
      return;
    }
    for (const WireCodec codec : request_.codecs) {
      placement.codecs[from] = codec;
      attempt_codecs(placement, from + 1);
    }
  }

  const Cluster& cluster_;
  const model::ModelShape& shape_;
  const Request& request_;
  std::uint32_t layers_;
};

void expect_as_brute_force(std::uint32_t seed, std::uint32_t nodes, std::uint32_t layers) {
  SCOPED_TRACE(seed);
  Draw draw(seed);
  const model::ModelShape shape = draw.shape(layers);
  const Cluster cluster = draw.cluster(nodes, shape);
  const Request request = draw.request(cluster);
  BruteForce brute(cluster, shape, request);
  brute.all();
  for (std::size_t devices = 3; brute.least.empty() && devices <= cluster.devices.size(); ++devices) {
    brute.pools_of(devices);
  }
  const auto choice = choose(cluster, shape, request);
  if (brute.least.empty()) {
    ASSERT_FALSE(choice) << "a plan where there is none";
    EXPECT_EQ(choice.error().code, brute.any_fits() ? ErrorCode::kUnavailable : ErrorCode::kNoCapacity);
    return;
  }
  ASSERT_TRUE(choice) << choice.error().to_string();
  EXPECT_TRUE(choice->exhaustive);
  std::map<PlanShape, double> found;
  for (const Alternative& plan : choice->alternatives) {
    const auto again = predict(cluster, shape, request, plan.placement);
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_DOUBLE_EQ(again->score_s(), plan.prediction.score_s());
    const auto [at, fresh] = found.emplace(plan.shape(), plan.prediction.score_s());
    if (!fresh) at->second = std::min(at->second, plan.prediction.score_s());
  }
  ASSERT_EQ(found.size(), brute.least.size());
  double least = kUnlimited;
  for (const auto& [kind, score] : brute.least) {
    least = std::min(least, score);
    // An exact codec is kept where a lossy one gains less than a tie.
    EXPECT_LE(found.at(kind), score * (1 + kTie) * (1 + 1e-9)) << shape_name(kind);
    EXPECT_GE(found.at(kind), score * (1 - 1e-9)) << shape_name(kind);
  }
  EXPECT_LE(choice->best().prediction.score_s(), least * (1 + kTie) * (1 + kTie) * (1 + 1e-9));
  for (const Alternative& plan : choice->alternatives) {
    if (plan.shape() < choice->best().shape()) {
      EXPECT_GT(plan.prediction.score_s(), least * (1 + kTie)) << "a simpler plan was as good: " << plan.name;
    }
  }
}

TEST(Planner, FindsWhatBruteForceFindsOnManySmallClusters) {
  for (std::uint32_t seed = 0; seed < 1500; ++seed) expect_as_brute_force(seed, 3, 6);
}

TEST(Planner, FindsWhatBruteForceFindsOnFourNodesAndSixteenLayers) {
  for (std::uint32_t seed = 5000; seed < 5030; ++seed) expect_as_brute_force(seed, 4, 16);
}

// Two machines alike, by a link so slow that one alone is best.
Cluster two_alike() {
  Cluster cluster;
  for (std::uint16_t node = 0; node < 2; ++node) {
    cluster.nodes.push_back({.name = node == 0 ? "left" : "right"});
    cluster.devices.push_back({.name = cluster.nodes.back().name,
                               .node = node,
                               .flops_per_second = 1e12,
                               .bytes_per_second = 100e9,
                               .memory_bytes = 1e12});
  }
  connect_all(cluster, 1e5, 0.01);
  return cluster;
}

TEST(Planner, LeavesADeviceWhoseAnswersWouldWaitAndOneThatIsBusy) {
  const model::ModelShape shape = Draw(3).shape(8);
  const Request request = {.prompt_tokens = 1024, .output_tokens = 16};
  Cluster cluster = two_alike();
  const auto best = [&] { return choose(cluster, shape, request).value().best().name; };
  EXPECT_EQ(best(), "left");
  cluster.devices[0].streams = 2;
  EXPECT_EQ(best(), "right");
  cluster.devices[1].queue_s = 1e3;
  EXPECT_EQ(best(), "left") << "a delay of others is better than waiting for ever";
}

TEST(Planner, FollowsAPrefixThatADeviceHolds) {
  const model::ModelShape shape = Draw(3).shape(8);
  Cluster cluster = two_alike();
  cluster.devices[1].prefix_tokens = 1000;
  const Choice choice = choose(cluster, shape, {.prompt_tokens = 1024, .output_tokens = 4}).value();
  EXPECT_EQ(choice.best().name, "right");
  EXPECT_EQ(choice.best().prediction.prefix_tokens, 1000u);
}

TEST(Planner, SaysWhenAPoolIsTooLargeToWeighEveryOne) {
  Draw draw(1);
  model::ModelShape shape = draw.shape(1);
  shape.layer_count = 80;
  shape.layers.resize(80, shape.layers[0]);
  Cluster cluster;
  for (std::uint16_t node = 0; node < 8; ++node) {
    cluster.nodes.push_back({.name = std::to_string(node)});
    cluster.devices.push_back({.name = std::to_string(node),
                               .node = node,
                               .flops_per_second = draw.real(1e12, 9e12),
                               .bytes_per_second = draw.real(100e9, 900e9),
                               .memory_bytes = 20.0 * static_cast<double>(shape.layers[0].weight_bytes) +
                                               3.0 * static_cast<double>(shape.head_weight_bytes)});
  }
  connect_all(cluster, 1.25e9, 1e-4);
  const Choice choice = choose(cluster, shape, {.prompt_tokens = 600, .output_tokens = 100}).value();
  EXPECT_FALSE(choice.exhaustive);
  EXPECT_EQ(choice.best().shape(), PlanShape::kPooled);
  EXPECT_TRUE(predict(cluster, shape, {.prompt_tokens = 600, .output_tokens = 100}, choice.best().placement));
}

TEST(Planner, SaysWhatTheLargestDeviceLacks) {
  const model::ModelShape shape = Draw(3).shape(8);
  Cluster cluster = two_alike();
  cluster.devices[0].memory_bytes = 1e6;
  cluster.devices[1].memory_bytes = 2e6;
  const auto choice = choose(cluster, shape, {.prompt_tokens = 100});
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(choice.error().message.contains("the largest device, 'right', which has 0.0 GB"))
      << choice.error().message;
}

TEST(Planner, SaysThatALinkIsMissingWhereMemoryIsNot) {
  const model::ModelShape shape = Draw(3).shape(8);
  Cluster cluster = two_alike();
  cluster.nodes.push_back({.name = "third"});
  const auto choice = choose(cluster, shape, {.prompt_tokens = 100, .coordinator = 2});
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(choice.error().message.contains("node 'third'")) << choice.error().message;
}

TEST(Planner, RefusesNumbersThatMakeNoSense) {
  const model::ModelShape shape = Draw(3).shape(8);
  const auto code = [&](const Cluster& cluster, const Request& request) {
    return choose(cluster, shape, request).error().code;
  };
  const Request request = {.prompt_tokens = 10};
  EXPECT_EQ(code({}, request), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(two_alike(), {.prompt_tokens = 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(two_alike(), {.prompt_tokens = 10, .output_tokens = 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(two_alike(), {.prompt_tokens = 10, .coordinator = 2}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(two_alike(), {.prompt_tokens = 10, .codecs = {}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(two_alike(), {.prompt_tokens = 10, .chunk_tokens = {0}}), ErrorCode::kInvalidArgument);
  Cluster cluster = two_alike();
  cluster.links.push_back(cluster.links[0]);
  EXPECT_EQ(code(cluster, request), ErrorCode::kInvalidArgument);
  cluster = two_alike();
  cluster.devices[0].node = 2;
  EXPECT_EQ(code(cluster, request), ErrorCode::kInvalidArgument);
  cluster = two_alike();
  cluster.devices[0].warm_slowdown = 0.5;
  EXPECT_EQ(code(cluster, request), ErrorCode::kInvalidArgument);
  EXPECT_EQ(choose(two_alike(), {}, request).error().code, ErrorCode::kInvalidArgument);
  cluster = two_alike();
  cluster.devices.pop_back();
  cluster.devices[0].flops_per_second = 1e-290;
  cluster.devices[0].queue_s = std::numeric_limits<double>::max();
  EXPECT_EQ(code(cluster, request), ErrorCode::kInvalidArgument) << "longer than a number can say";
}

}  // namespace
}  // namespace baton::plan
