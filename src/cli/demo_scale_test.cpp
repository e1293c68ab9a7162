#include "cli/demo_scale.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>

#include "base/temporary_folder.h"
#include "engine/model.h"

namespace baton::cli {
namespace {

// The scale model's totals, from the file that the demo really runs on.
WorkTotals scale_totals() {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  EXPECT_TRUE(model::synthesize(scale_model(), folder.path() / "model.gguf"));
  return work_totals(engine::Model::open(folder.path() / "model.gguf").value()->shape(), kScaleWorkload);
}

// Every figure here is one of docs/demo.md, which bench/handoff/demo_arithmetic works out apart from this code.

TEST(DemoScale, CountsTheWorkOfTheReference) {
  const WorkTotals reference = work_totals(reference_shape(), kReferenceWorkload);
  EXPECT_NEAR(reference.prefill_flops / 1e12, 131.94, 0.005);
  EXPECT_NEAR(reference.decode_bytes / 1e9, 514.7, 0.05);
  EXPECT_NEAR(reference.kv_bytes / 1e6, 1073.7, 0.05);
}

TEST(DemoScale, CountsTheWorkOfTheScaleModel) {
  const WorkTotals scale = scale_totals();
  EXPECT_NEAR(scale.prefill_flops / 1e9, 32.24, 0.005);
  EXPECT_NEAR(scale.decode_bytes / 1e9, 0.6141, 0.00005);
  EXPECT_NEAR(scale.kv_bytes / 1e6, 4.194, 0.0005);
}

TEST(DemoScale, ArrivesAtTheStatedRates) {
  const WorkTotals reference = work_totals(reference_shape(), kReferenceWorkload);
  const WorkTotals scale = scale_totals();
  const engine::EmulatedDevice spark = scaled_device(kSpark, reference, scale);
  EXPECT_NEAR(spark.teraflops * 1e3, 21.989, 0.0005);
  EXPECT_NEAR(spark.gigabytes_per_second * 1e3, 213.6, 0.05);
  const engine::EmulatedDevice m3ultra = scaled_device(kM3Ultra, reference, scale);
  EXPECT_NEAR(m3ultra.teraflops * 1e3, 5.7906, 0.00005);
  EXPECT_NEAR(m3ultra.gigabytes_per_second * 1e3, 723.0, 0.05);
  EXPECT_NEAR(scaled_link_gbit(reference, scale) * 1e3, 39.0625, 0.00005);
}

TEST(DemoScale, TakesThePublishedSecondsOfEachMachineAlone) {
  const WorkTotals reference = work_totals(reference_shape(), kReferenceWorkload);
  const auto prefill_s = [&](const EffectiveRates& rates) { return reference.prefill_flops / (rates.tflops * 1e12); };
  const auto decode_s = [&](const EffectiveRates& rates) { return reference.decode_bytes / (rates.gbps * 1e9); };
  EXPECT_NEAR(prefill_s(kSpark), 1.47, 0.005);
  EXPECT_NEAR(decode_s(kSpark), 2.87, 0.01);
  EXPECT_NEAR(prefill_s(kM3Ultra), 5.57, 0.005);
  EXPECT_NEAR(decode_s(kM3Ultra), 0.85, 0.005);
}

// What `baton demo` measured when it last ran on a quiet machine, against what the planner's cost model says of the
// same machines at full size. The rows alone were fitted; the others show whether pipeline and links are modelled
// rightly.
TEST(DemoScale, WasMeasuredAsThePlannerPredicts) {
  std::map<std::string, std::vector<double>> measured_s;
  std::ifstream file(BATON_SOURCE_DIR "/bench/results/handoff-demo.csv");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::vector<std::string> cells(1);
    for (const char c : line) c == ',' ? cells.emplace_back() : cells.back() += std::string(1, c);
    measured_s[cells.at(8)].push_back(std::stod(cells.at(12)));
  }
  ASSERT_EQ(measured_s.size(), 6u);
  using plan::WireCodec;
  const std::vector<plan::DeviceStage> on_mac = {{2, {0, 32}}};
  const std::vector<plan::DeviceStage> relay = {{0, {0, 14}}, {1, {14, 28}}, {2, {28, 32}}};
  const std::map<std::string, plan::Placement> rows = {
      {"spark", {{{0, {0, 32}}}, {{0, {0, 32}}}, {WireCodec::kF16}, 512}},
      {"m3ultra", {on_mac, on_mac, {WireCodec::kF16}, 512}},
      {"disaggregated", {{{0, {0, 32}}}, on_mac, {WireCodec::kF16}, 512}},
      {"joint", {{{0, {0, 26}}, {2, {26, 32}}}, on_mac, std::vector(2, WireCodec::kF16), 512}},
      {"relay", {relay, on_mac, std::vector(3, WireCodec::kF16), 512}},
      {"relay-q8", {relay, on_mac, std::vector(3, WireCodec::kQ8_0), 512}}};
  for (const auto& [name, placement] : rows) {
    std::vector<double>& seconds = measured_s.at(name);
    std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
    const double median_s = seconds[seconds.size() / 2];
    const double predicted_s = predicted_total_s(placement).value();
    std::printf("%-14s predicted %.3f s, measured %.3f s, %+.2f%%\n", name.c_str(), predicted_s, median_s,
                (predicted_s / median_s - 1) * 100);
    EXPECT_NEAR(predicted_s, median_s, 0.03 * median_s) << name;
  }
}

TEST(DemoScale, KeepsTheGridAndTheGroupsOfTheReference) {
  const model::ModelShape reference = reference_shape();
  const model::SynthOptions scale = scale_model();
  EXPECT_EQ(scale.layers, reference.layer_count);
  EXPECT_EQ(scale.heads / scale.kv_heads, reference.head_count / reference.kv_head_count);
  EXPECT_EQ(kScaleWorkload.prompt_tokens / kScaleWorkload.chunk_tokens,
            kReferenceWorkload.prompt_tokens / kReferenceWorkload.chunk_tokens);
}

}  // namespace
}  // namespace baton::cli
