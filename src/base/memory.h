// What the operating system can be told about memory.
#pragma once

#include <span>

#include "base/bytes.h"

namespace baton {

// Asks for large pages under memory that is read in long runs: fewer page faults, fewer address look-ups. Worth calling
// before the memory is first touched; does nothing where the system has none to give.
void advise_large_pages(std::span<std::byte> memory);

}  // namespace baton
