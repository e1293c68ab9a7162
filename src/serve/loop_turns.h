// Who may have the loop's thread next, of those that take it a while: one at a time, clients in turn, so that nobody's
// questions hold up answers. Numbers only; on one thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "base/result.h"
#include "serve/fair_queue.h"

namespace baton::serve {

class LoopTurns {
 public:
  struct Limits {
    std::size_t waiting = 64;
    std::size_t waiting_of_one_client = 8;
  };
  using Turn = std::move_only_function<void()>;

  explicit LoopTurns(Limits limits) : limits_(limits), queue_(limits.waiting) {}

  // Calls `begin` when it is its turn, perhaps at once. kNoCapacity, and it is never called, where too many wait.
  Result<void> take(const std::string& client, Turn begin);
  // Once by everybody who has begun: the next may.
  void end();

 private:
  struct Waiting {
    std::string client;
    Turn begin;
  };
  void go_on();

  const Limits limits_;
  FairQueue<Waiting> queue_;
  bool is_taken_ = false;
};

}  // namespace baton::serve
