#include "cli/own_state.h"

#include <chrono>

#include "engine/device.h"

namespace baton::cli {

namespace {

// How much memory is free changes slowly, and asking for it costs.
constexpr auto kDeviceInterval = std::chrono::seconds(10);

}  // namespace

cluster::NodeState OwnState::now(const ClusterPlanner& planner) {
  const TimePoint time = baton::now();
  if (time >= next_look_) {
    next_look_ = time + Duration(kDeviceInterval);
    state_.devices.clear();
    for (const engine::DeviceInfo& device : engine::list_devices()) {
      state_.devices.push_back({device.name, device.description, device.memory_total_bytes, device.memory_free_bytes});
    }
  }
  planner.describe(state_);
  return state_;
}

}  // namespace baton::cli
