// How much memory a model takes, reckoned before anything is loaded.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace baton::engine {

// Bytes of the weights as they lie in the file and of the whole KV cache. What is laid out anew beside the file, and
// what a pass computes with, comes on top: stats() of a loaded engine knows.
std::uint64_t memory_need_bytes(const Model& model, const EngineOptions& options);

// Bytes of a value in a cache of that type.
double kv_bytes_per_value(CacheType type);

// All that a loaded engine holds. `stats` are its own.
std::uint64_t held_bytes(const EngineStats& stats);

// What a device has free now (DeviceInfo::memory_free_bytes). Nothing where the system does not say.
std::optional<std::uint64_t> free_device_bytes(const DeviceInfo& device);

}  // namespace baton::engine
