#include "base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace baton {

void advise_large_pages(std::span<std::byte> memory) {
#ifdef MADV_HUGEPAGE
  static const auto page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::uintptr_t begin = (address + page_bytes - 1) / page_bytes * page_bytes;
  const std::uintptr_t end = (address + memory.size()) / page_bytes * page_bytes;
  // Refused where the kernel was built without them, which costs nothing but speed.
  if (begin < end) (void)::madvise(memory.data() + (begin - address), end - begin, MADV_HUGEPAGE);
#else
  (void)memory;
#endif
}

}  // namespace baton
