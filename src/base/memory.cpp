#include "base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace baton {

namespace {

// The number in a file of one number; nothing for "max" or a file that is not there.
std::optional<std::uint64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

// The number after `name` in a file of lines such as "name 123" or "name:   123 kB".
std::optional<std::uint64_t> number_after(const std::filesystem::path& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t digits = line.find_first_of("0123456789", name.size());
    std::uint64_t value = 0;
    if (digits == std::string::npos) return std::nullopt;
    if (std::from_chars(line.data() + digits, line.data() + line.size(), value).ec != std::errc()) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

// What one control group leaves of its limit; nothing where it has none.
std::optional<std::uint64_t> left_in(const std::filesystem::path& group, const char* limit_name, const char* used_name,
                                     std::string_view cache_name) {
  const auto limit = number_in(group / limit_name);
  const auto used = number_in(group / used_name);
  if (!limit || !used) return std::nullopt;
  const std::uint64_t cached = number_after(group / "memory.stat", cache_name).value_or(0);
  const std::uint64_t held = *used - std::min(*used, cached);
  return *limit - std::min(*limit, held);
}

void keep_smaller(std::optional<std::uint64_t>& least, std::optional<std::uint64_t> other) {
  if (other && (!least || *other < *least)) least = other;
}

}  // namespace

std::optional<std::uint64_t> available_memory_bytes(const std::filesystem::path& root) {
  std::optional<std::uint64_t> least;
  if (const auto kibibytes = number_after(root / "proc/meminfo", "MemAvailable:")) least = *kibibytes * 1024;

  // Lines such as "0::/user.slice" (v2) and "4:memory:/docker/3f1c" (v1), see cgroups(7).
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers != "memory") continue;
    const std::filesystem::path top = root / (unified ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    // A limit of a group holds for all groups below it. In a container the path may be the host's: only the top is
    // there.
    std::filesystem::path group = std::filesystem::path(line.substr(second + 1)).relative_path();
    while (true) {
      keep_smaller(least, unified ? left_in(top / group, "memory.max", "memory.current", "inactive_file ")
                                  : left_in(top / group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                            "total_inactive_file "));
      if (group.empty()) break;
      group = group.parent_path();
    }
  }
  return least;
}

void advise_large_pages(ByteSpan memory) {
#ifdef MADV_HUGEPAGE
  static const auto page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t begin = (address + page_bytes - 1) / page_bytes * page_bytes;
  const std::uintptr_t end = (address + memory.size()) / page_bytes * page_bytes;
  // Refused where the kernel was built without them, which costs nothing but speed.
  if (begin < end) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
#endif
}

}  // namespace baton
