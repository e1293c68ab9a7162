// How much memory a process may still take.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace baton {

// Bytes that this process can take without swapping or being killed: what the system calls available, and what every
// control group above the process (Linux, cgroup v1 and v2) leaves of its limit, cached file pages counted as free.
// Nothing where the system does not say (not Linux). `root` is where /proc and /sys are found.
std::optional<std::uint64_t> available_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace baton
