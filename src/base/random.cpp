#include "base/random.h"

#include <openssl/rand.h>

#include <cstdlib>

namespace baton {

void fill_random(std::span<std::byte> bytes) {
  // A machine without randomness cannot name or encrypt anything: there is nothing to go on with.
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) != 1) std::abort();
}

}  // namespace baton
