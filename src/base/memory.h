// What the operating system says about memory, and what it can be told.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/bytes.h"

namespace baton {

// Bytes that this process can take without swapping or being killed: what the system calls available, and what every
// control group above the process (Linux, cgroup v1 and v2) leaves of its limit, cached file pages counted as free.
// Nothing where the system does not say (not Linux). `root` is where /proc and /sys are found.
std::optional<std::uint64_t> available_memory_bytes(const std::filesystem::path& root = "/");

// Asks for large pages under memory that is read in long runs: fewer page faults, fewer address look-ups. Worth calling
// before the memory is first touched; does nothing where the system has none to give. A mapped file gets them if it is
// not in the system's cache yet, and its file system can (Linux 6.16 and later with ext4).
void advise_large_pages(ByteSpan memory);

}  // namespace baton
