#include "cli/own_state.h"

#include <chrono>

#include "engine/device.h"

namespace baton::cli {

namespace {

// How much memory is free changes slowly, and asking for it costs.
constexpr auto kDeviceInterval = std::chrono::seconds(10);

}  // namespace

OwnState::OwnState(const engine::Model& model, const Sha256& digest, const engine::EngineOptions& options) {
  const std::uint32_t layers = model.shape().layer_count;
  const LayerRange held = options.layers.value_or(LayerRange{0, layers});
  state_.models = {{.name = model.path().filename().string(),
                    .digest = digest.hex(),
                    .layers_begin = held.begin,
                    .layers_end = held.end,
                    .layer_count = layers,
                    .context_tokens = options.context_tokens,
                    .chunk_tokens = options.max_chunk_tokens}};
}

cluster::NodeState OwnState::now(const node::Node& node, const ClusterPlanner& planner) {
  const TimePoint time = baton::now();
  if (time >= next_look_) {
    next_look_ = time + Duration(kDeviceInterval);
    state_.devices.clear();
    for (const engine::DeviceInfo& device : engine::list_devices()) {
      state_.devices.push_back({device.name, device.description, device.memory_total_bytes, device.memory_free_bytes});
    }
  }
  state_.load.transfers = static_cast<std::uint32_t>(node.transfers());
  planner.describe(state_);
  return state_;
}

}  // namespace baton::cli
