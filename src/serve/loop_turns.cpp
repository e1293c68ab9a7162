#include "serve/loop_turns.h"

#include <format>
#include <utility>

namespace baton::serve {

Result<void> LoopTurns::take(const std::string& client, Turn begin) {
  std::size_t of_client = 0;
  queue_.for_each([&](const Waiting& waiting) { of_client += waiting.client == client ? 1 : 0; });
  if (of_client >= limits_.waiting_of_one_client) {
    return fail(ErrorCode::kNoCapacity, std::format("{} questions of yours wait already: come back later", of_client));
  }
  const std::size_t waiting = queue_.size();
  if (!queue_.push(client, {client, std::move(begin)})) {
    return fail(ErrorCode::kNoCapacity, std::format("{} questions wait already: come back later", waiting));
  }
  go_on();
  return {};
}

void LoopTurns::end() {
  is_taken_ = false;
  go_on();
}

void LoopTurns::go_on() {
  if (is_taken_ || queue_.empty()) return;
  is_taken_ = true;
  Waiting next = queue_.pop();
  next.begin();
}

}  // namespace baton::serve
