#include "base/thread.h"

#include <pthread.h>
#include <sys/resource.h>

namespace baton {

void name_this_thread(const char* name) {
#ifdef __APPLE__
  pthread_setname_np(name);
#else
  pthread_setname_np(pthread_self(), name);
#endif
}

void lower_priority_of_this_thread() {
#ifdef __linux__
  // On Linux the calling thread alone (setpriority(2), "C library/kernel differences").
  constexpr int kNice = 10;
  setpriority(PRIO_PROCESS, 0, kNice);
#endif
}

}  // namespace baton
