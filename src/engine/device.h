// The devices this machine offers: what ggml's registry found.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baton::engine {

enum class DeviceKind { kCpu, kGpu, kIntegratedGpu, kAccelerator };

struct DeviceInfo {
  std::string name;         // what --device takes, such as "CPU" or "CUDA0"
  std::string description;  // what its maker calls it
  DeviceKind kind = DeviceKind::kCpu;
  std::uint64_t memory_total_bytes = 0;
  // When it was looked at; 0 as the total where nobody knows. Of a CPU it is what this process may still take, where
  // the system says that: pages of mapped files count as free there, though a model in use needs them.
  std::uint64_t memory_free_bytes = 0;
};

// All devices, in the registry's order. The first call loads ggml's backends. Thread-safe.
std::vector<DeviceInfo> list_devices();

// Cores the process may run on: the default number of threads.
unsigned usable_cores();

}  // namespace baton::engine
