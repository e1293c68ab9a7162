#include "engine/environment.h"

#include <unistd.h>

#include <cstdlib>

namespace baton::engine {

void prepare_process_environment([[maybe_unused]] char** argv) {
#ifdef __linux__
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  if (::setenv("GOMP_SPINCOUNT", "10000", 0) != 0) return;
  ::execv("/proc/self/exe", argv);  // returns only where it failed: then all works, with hotter idle threads
#endif
}

}  // namespace baton::engine
