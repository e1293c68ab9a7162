#include <gtest/gtest.h>

#include <cmath>

#include "plan/device_profiles.h"
#include "plan/model_shapes.h"
#include "plan/planner.h"
#include "plan/threshold.h"

namespace baton::plan {
namespace {

Cluster machines(const std::vector<std::string_view>& names, std::string_view link = "10gbe") {
  Cluster cluster;
  for (const std::string_view name : names) {
    const auto node = static_cast<std::uint16_t>(cluster.nodes.size());
    cluster.nodes.push_back({.name = std::string(name)});
    cluster.devices.push_back(find_device_profile(name).value().device(node));
  }
  const LinkProfile numbers = find_link_profile(link).value();
  connect_all(cluster, numbers.bytes_per_second, numbers.latency_s);
  return cluster;
}

const Alternative* named(const Choice& choice, std::string_view name) {
  const auto found = std::ranges::find(choice.alternatives, name, &Alternative::name);
  return found == choice.alternatives.end() ? nullptr : &*found;
}

// EXO Labs, https://blog.exolabs.net/nvidia-dgx-spark: 8,192 tokens in, 32 out, 10GbE. The rows alone were fitted; the
// third was not.
TEST(DeviceProfiles, PredictThePublishedRows) {
  const model::ModelShape shape = find_model_shape("llama-3.1-8b-f16").value();
  const Request request = {.prompt_tokens = 8192, .output_tokens = 32};
  const Choice choice = choose(machines({"spark", "m3ultra"}), shape, request).value();
  const auto expect = [&](std::string_view name, double prefill_s, double decode_s, double total_s) {
    const Alternative* plan = named(choice, name);
    ASSERT_NE(plan, nullptr) << name;
    EXPECT_NEAR(plan->prediction.prefill_s, prefill_s, 0.05 * prefill_s) << name;
    EXPECT_NEAR(plan->prediction.decode_s, decode_s, 0.05 * decode_s) << name;
    EXPECT_NEAR(plan->prediction.total_s, total_s, 0.05 * total_s) << name;
  };
  expect("spark", 1.47, 2.87, 4.34);
  expect("m3ultra", 5.57, 0.85, 6.42);
  expect("disaggregated", 1.47, 0.85, 2.32);
  EXPECT_EQ(choice.best().name, "joint");
  // The dial of docs/demo.md: near 26 of 32 layers on the Spark.
  EXPECT_NEAR(choice.best().placement.prefill[0].layers.end, 26, 1);
  EXPECT_LT(choice.best().prediction.total_s, 0.95 * named(choice, "disaggregated")->prediction.total_s);
}

TEST(DeviceProfiles, EachNamesItsSourcesAndNothingExceedsAPeak) {
  for (const DeviceProfile& profile : device_profiles()) {
    EXPECT_FALSE(profile.peak_source.empty()) << profile.name;
    EXPECT_FALSE(profile.efficiency_source.empty()) << profile.name;
    EXPECT_FALSE(profile.memory_source.empty()) << profile.name;
    for (const double part : {profile.compute_efficiency, profile.memory_efficiency, profile.usable_memory}) {
      EXPECT_GT(part, 0.2) << profile.name;
      EXPECT_LE(part, 1) << profile.name;
    }
    Cluster cluster;
    cluster.nodes.push_back({});
    cluster.devices.push_back(profile.device(0));
    EXPECT_TRUE(cluster.validate()) << profile.name;
  }
}

TEST(DeviceProfiles, RefuseWhatTheyDoNotKnow) {
  EXPECT_EQ(find_device_profile("abacus").error().code, ErrorCode::kNotFound);
  for (const std::string_view text : {"", "carrier-pigeon", "0", "-1", "10:", "10:x", "nan", "10:-1"}) {
    EXPECT_FALSE(find_link_profile(text)) << text;
  }
  EXPECT_DOUBLE_EQ(find_link_profile("8:0.5")->bytes_per_second, 1e9);
  EXPECT_DOUBLE_EQ(find_link_profile("8:0.5")->latency_s, 0.0005);
  for (const std::string_view name : {"", "llama-3.1-8b", "llama-3.1-8b-f17", "f16", "-f16", "llama-9-f16"}) {
    EXPECT_FALSE(find_model_shape(name)) << name;
  }
}

// Parameters as the publishers state them, in thousands of millions.
TEST(ModelShapes, HaveAsManyParametersAsPublished) {
  const std::pair<std::string_view, double> published[] = {
      {"llama-3.1-8b", 8.03}, {"llama-3.1-70b", 70.6}, {"llama-3.2-1b", 1.24}, {"llama-3.2-3b", 3.21},
      {"qwen3-8b", 8.2},      {"qwen3-14b", 14.8},     {"qwen3-32b", 32.8},    {"qwen3-30b-a3b", 30.5},
      {"gpt-oss-20b", 20.9},  {"gpt-oss-120b", 116.8}};
  ASSERT_EQ(std::size(published), published_models().size());
  for (const auto& [name, thousand_millions] : published) {
    const model::ModelShape shape = find_model_shape(std::string(name) + "-f16").value();
    double parameters = (shape.head_weight_bytes + shape.embedding_bytes) / 2.0;
    for (const auto& layer : shape.layers) parameters += static_cast<double>(layer.weight_count);
    EXPECT_NEAR(parameters / 1e9, thousand_millions, 0.01 * thousand_millions) << name;
  }
}

TEST(ModelShapes, TakeTheBytesOfTheirType) {
  const double f16 = static_cast<double>(find_model_shape("qwen3-8b-f16")->layers[0].weight_bytes);
  EXPECT_DOUBLE_EQ(static_cast<double>(find_model_shape("qwen3-8b-q8_0")->layers[0].weight_bytes), f16 * 34 / 64);
  EXPECT_DOUBLE_EQ(static_cast<double>(find_model_shape("qwen3-8b-q4_0")->layers[0].weight_bytes), f16 * 18 / 64);
}

// 141 GB: no Spark holds it, two do.
TEST(DeviceProfiles, SpreadAModelThatFitsOnNone) {
  const model::ModelShape shape = find_model_shape("llama-3.1-70b-f16").value();
  const Request request = {.prompt_tokens = 4096, .output_tokens = 64};
  EXPECT_EQ(choose(machines({"spark"}), shape, request).error().code, ErrorCode::kNoCapacity);
  const Choice two = choose(machines({"spark", "spark"}), shape, request).value();
  EXPECT_EQ(two.best().name, "pooled");
  EXPECT_EQ(two.unfit.size(), 2u);
  EXPECT_EQ(two.alternatives.size(), 1u);
  const Choice three = choose(machines({"spark", "m3ultra", "spark"}), shape, request).value();
  EXPECT_EQ(three.best().name, "relay");
}

// A card and the same machine's processor: the card takes what it holds.
TEST(DeviceProfiles, FitAModelTooLargeForTheCardByThemselves) {
  Cluster cluster;
  cluster.nodes.push_back({.name = "desktop"});
  cluster.devices = {find_device_profile("rtx4090")->device(0), find_device_profile("cpu-16")->device(0)};
  const model::ModelShape shape = find_model_shape("qwen3-32b-q8_0").value();
  const Choice choice = choose(cluster, shape, {.prompt_tokens = 2048, .output_tokens = 256}).value();
  ASSERT_EQ(choice.best().name, "pooled");
  EXPECT_LT(choice.best().prediction.total_s, 0.5 * named(choice, "cpu-16")->prediction.total_s);
  std::uint32_t on_card = 0;
  for (const DeviceStage& stage : choice.best().placement.prefill) {
    if (stage.device == 0) on_card = stage.layers.size();
  }
  EXPECT_GE(on_card, 36u);
  EXPECT_LE(on_card, 44u);
}

TEST(Threshold, IsAResultOfModelLinkAndCodec) {
  const auto hidden = [](std::string_view model, std::string_view link, WireCodec codec) {
    const Cluster cluster = machines({"spark", "m3ultra"}, link);
    const Request request = {.prompt_tokens = 1, .output_tokens = 32};
    return find_threshold(cluster, find_model_shape(model).value(), request, 0, 1, codec, 512).value();
  };
  // A layer's KV of a chunk, 2 MiB, is on the wire for 1.8 ms and the layer computed in 2.4 ms or more.
  EXPECT_EQ(hidden("llama-3.1-8b-f16", "10gbe", WireCodec::kF16).hidden_tokens, 1u);
  // Half the bytes hide sooner, and over a slow link only attention's growth makes long prompts hide.
  const auto slow = hidden("llama-3.1-8b-f16", "2.5gbe", WireCodec::kF16).hidden_tokens;
  const auto slow_q8 = hidden("llama-3.1-8b-f16", "2.5gbe", WireCodec::kQ8_0).hidden_tokens;
  ASSERT_TRUE(slow_q8);
  EXPECT_LT(slow_q8.value(), slow.value_or(kLongestPrompt + 1));
  const auto pays = hidden("llama-3.1-8b-f16", "10gbe", WireCodec::kF16).pays_tokens;
  ASSERT_TRUE(pays);
  EXPECT_LT(*pays, 512u);
}

}  // namespace
}  // namespace baton::plan
