#include "cli/plan_machines.h"

#include <algorithm>
#include <format>

#include "engine/benchmark.h"
#include "model/cost.h"
#include "plan/device_profiles.h"
#include "plan/plan.h"

namespace baton::cli {

namespace {

// What this machine is measured with: short, since a person waits.
constexpr std::uint32_t kPromptTokens = 512;
constexpr std::uint32_t kGeneratedTokens = 16;
// Of what was free before the model was loaded.
constexpr double kUsableMemory = 0.9;

// Its rates with this very model, from a prompt and an answer really computed.
Result<plan::Device> measure_this_machine(const std::string& path) {
  engine::EngineOptions options;
  options.context_tokens = kPromptTokens;
  const auto engine = TRY(engine::Engine::create(TRY(engine::Model::open(path)), options));
  const model::ModelShape& shape = engine->shape();
  const engine::Rate read = TRY(engine::prompt_tokens_per_second(*engine, {.tokens = kPromptTokens, .repetitions = 1}));
  const engine::Rate written =
      TRY(engine::generated_tokens_per_second(*engine, {.tokens = kGeneratedTokens, .repetitions = 1}));
  double flops = model::head_cost(shape, 1).flops;
  double bytes = model::head_cost(shape, 1).bytes * kGeneratedTokens;
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    const model::LayerMemory& kept = shape.layers[layer].memory;
    const double kv_bytes = 2.0 * (kept.k_width + kept.v_width);
    const model::TokenRun prompt{0, kPromptTokens};
    flops += model::layer_flops(shape, layer, {&prompt, 1});
    for (std::uint32_t step = 0; step < kGeneratedTokens; ++step) {
      const model::TokenRun token{step, 1};
      bytes += model::layer_bytes(shape, layer, {&token, 1}, kv_bytes);
    }
  }
  plan::Device device;
  device.flops_per_second = flops * read.mean / kPromptTokens;
  device.bytes_per_second = bytes * written.mean / kGeneratedTokens;
  device.memory_bytes = kUsableMemory * static_cast<double>(engine->device().memory_free_bytes);
  return device;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Makes the last of the names unlike those before it.
void number_last(auto& named) {
  const std::string name = named.back().name;
  const auto taken = [&](const std::string& wanted) {
    return std::ranges::any_of(named.begin(), named.end() - 1, [&](const auto& other) { return other.name == wanted; });
  };
  for (int number = 2; taken(named.back().name); ++number) named.back().name = std::format("{}{}", name, number);
}

}  // namespace

Result<plan::Cluster> make_cluster(const MachineFlags& flags, const std::string& model) {
  if (flags.devices.size() > plan::kMaxNodes) {
    return fail(ErrorCode::kInvalidArgument, std::format("at most {} machines can be planned for", plan::kMaxNodes));
  }
  plan::Cluster cluster;
  for (const std::string& machine : flags.devices) {
    const auto node = static_cast<std::uint16_t>(cluster.nodes.size());
    cluster.nodes.push_back({.name = machine});
    number_last(cluster.nodes);
    for (const std::string& name : split(machine, '+')) {
      if (name != kThisMachine) {
        cluster.devices.push_back(TRY(plan::find_device_profile(name)).device(node));
      } else if (model.empty()) {
        return fail(ErrorCode::kInvalidArgument, "to measure this machine, give the MODEL file to measure it with");
      } else {
        cluster.devices.push_back(TRY(measure_this_machine(model)));
        cluster.devices.back().name = name;
        cluster.devices.back().node = node;
      }
      number_last(cluster.devices);
    }
  }
  const plan::LinkProfile link = TRY(plan::find_link_profile(flags.link));
  plan::connect_all(cluster, link.bytes_per_second, link.latency_s);
  return cluster;
}

}  // namespace baton::cli
