// The answers of this node that were asked for lately, and what became of them: what GET /api/requests shows, and of
// those that were planned GET /api/plan.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "node/request.h"

namespace baton::serve {

enum class AnswerState {
  kQueued,   // for room
  kLoading,  // for its model
  kPrefilling,
  kDecoding,
  kEnded,
  kFailed,
  kCancelled,  // by its client, who went away, or by somebody else
};
// Such as "queued".
std::string_view answer_state_name(AnswerState state);

// What a plan promises. Seconds from the answer's start.
struct AnswerPrediction {
  double planning_ms = 0;
  double first_token_s = 0;
  double total_s = 0;
};

// One answer, without a word of what was asked and answered.
struct AnswerRecord {
  std::uint64_t id = 0;
  std::uint64_t request = 0;  // the first answer's id, of several to one request
  std::string model;
  std::string endpoint;  // "/v1/chat/completions"
  std::string client;    // "key NAME", or an address
  AnswerState state = AnswerState::kQueued;
  std::chrono::system_clock::time_point came_at{};
  double queue_s = 0;                        // so far, where it still waits
  std::optional<double> first_token_s = {};  // from its start
  double total_s = 0;                        // from its start until now or its end; 0 where it has not begun
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of those
  std::uint32_t new_tokens = 0;     // so far
  std::uint32_t most_new_tokens = 0;
  std::string shape = {};  // these two are empty where it has not begun
  std::string plan = {};
  std::optional<AnswerPrediction> predicted = {};  // nothing where no planner was asked
  std::vector<node::Recovery> recoveries = {};
  std::optional<Error> error = {};
};

// Lives on the loop's thread.
class AnswerBook {
 public:
  // Those that ended before are forgotten.
  static constexpr std::size_t kMostEnded = 256;

  void add_ended(AnswerRecord record);
  // The latest last.
  const std::deque<AnswerRecord>& ended() const { return ended_; }

 private:
  std::deque<AnswerRecord> ended_;
};

// {"id", "request", "model", "state", ...}; what is not known yet is left out.
std::string to_json(const AnswerRecord& record);
// {"requests": [...]}, in the order in which they came.
std::string to_json(std::vector<AnswerRecord> records);
// Machines that were lost, and how the answer went on: [{"lost", "reason", "plan", ...}].
std::string replans_json(std::span<const node::Recovery> recoveries);

double in_milliseconds(double seconds);

}  // namespace baton::serve
