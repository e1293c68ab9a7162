#pragma once

#include <cstddef>
#include <span>

namespace baton {

// Fills with bytes that nobody can guess, from the system's generator. Ends the process where the system has none.
void fill_random(std::span<std::byte> bytes);

}  // namespace baton
