#include "serve/answer_book.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "serve/json.h"
#include "serve/ollama.h"

namespace baton::serve {

std::string_view answer_state_name(AnswerState state) {
  constexpr std::array<std::string_view, 7> kNames = {"queued", "loading", "prefilling", "decoding",
                                                      "ended",  "failed",  "cancelled"};
  return kNames[static_cast<std::size_t>(state)];
}

void AnswerBook::add_ended(AnswerRecord record) {
  if (ended_.size() >= kMostEnded) ended_.pop_front();
  ended_.push_back(std::move(record));
}

double in_milliseconds(double seconds) { return std::round(seconds * 1e6) / 1e3; }

std::string replans_json(std::span<const node::Recovery> recoveries) {
  std::vector<std::string> replans;
  for (const node::Recovery& recovery : recoveries) {
    replans.push_back(JsonObject()
                          .text("lost", recovery.lost ? recovery.lost->name : "")
                          .text("reason", recovery.error.message)
                          .text("plan", recovery.plan)
                          .text("replanned", recovery.replanned.to_string())
                          .integer("from_token", recovery.salvaged_tokens)
                          .integer("of_tokens", recovery.text_tokens)
                          .number("failed_ms", in_milliseconds(recovery.failed_s))
                          .number("cost_ms", in_milliseconds(recovery.cost_s()))
                          .str());
  }
  return json_array(replans);
}

std::string to_json(const AnswerRecord& record) {
  JsonObject object;
  object.integer("id", static_cast<std::int64_t>(record.id))
      .integer("request", static_cast<std::int64_t>(record.request))
      .text("model", record.model)
      .text("endpoint", record.endpoint)
      .text("client", record.client)
      .text("state", answer_state_name(record.state))
      .text("came_at", ollama::time_text(record.came_at))
      .number("queue_s", record.queue_s)
      .integer("prompt_tokens", record.prompt_tokens)
      .integer("cached_tokens", record.cached_tokens)
      .integer("new_tokens", record.new_tokens)
      .integer("most_new_tokens", record.most_new_tokens);
  if (!record.plan.empty()) {
    object.text("shape", record.shape).text("plan", record.plan).number("total_s", record.total_s);
  }
  if (record.first_token_s) object.number("first_token_s", *record.first_token_s);
  if (record.predicted) {
    object.number("planning_ms", record.predicted->planning_ms)
        .number("predicted_first_token_s", record.predicted->first_token_s)
        .number("predicted_total_s", record.predicted->total_s);
  }
  object.raw("replans", replans_json(record.recoveries));
  if (record.error) {
    object.raw("error", JsonObject()
                            .text("code", error_code_name(record.error->code))
                            .text("message", record.error->to_string())
                            .str());
  }
  return object.str();
}

std::string to_json(std::vector<AnswerRecord> records) {
  std::ranges::sort(records, {}, &AnswerRecord::id);
  std::vector<std::string> shown;
  shown.reserve(records.size());
  for (const AnswerRecord& record : records) shown.push_back(to_json(record));
  return JsonObject().raw("requests", json_array(shown)).str();
}

}  // namespace baton::serve
