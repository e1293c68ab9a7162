#include "serve/own_endpoints.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <iterator>
#include <vector>

namespace baton::serve {

namespace {

struct PlanQuestion {
  ServerCore::Named model;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t output_tokens = 0;
};

std::unexpected<Error> nothing_planned() {
  return fail(ErrorCode::kNotFound, "nothing is planned here: this server knows no cluster");
}

Result<PlanQuestion> plan_question(const ServerCore& core, const HttpRequest& request) {
  Json body = TRY(parse_small_json(request.body));
  PlanQuestion question;
  question.model = TRY(core.named_model(body));
  Fields fields = TRY(Fields::of(body));
  fields.allow({"model"});
  const auto prompt = TRY(fields.integer("prompt_tokens", 1, core.context_tokens));
  if (!prompt) return fields.wrong("prompt_tokens", "is needed: how many tokens are to be read");
  question.prompt_tokens = static_cast<std::uint32_t>(*prompt);
  const auto output = TRY(fields.integer("output_tokens", 1, core.context_tokens));
  question.output_tokens = static_cast<std::uint32_t>(output.value_or(core.options.default_new_tokens));
  TRY(fields.refuse_rest());
  return question;
}

// On the loop's thread.
std::vector<AnswerRecord> answers_under_way(const ServerCore& core) {
  std::vector<AnswerRecord> records;
  for (const auto& [entry, held] : core.workers)
    std::ranges::move(held.generator->answers(), std::back_inserter(records));
  return records;
}

// On the loop's thread; `text` is the last part of the path.
Result<AnswerRecord> find_answer(const ServerCore& core, const std::string& text) {
  const auto unknown = [&] {
    return fail(ErrorCode::kNotFound,
                std::format("there is no request '{}' here, or it has ended and others have ended since: GET "
                            "/api/requests lists those there are",
                            text));
  };
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) return unknown();
  for (AnswerRecord& record : answers_under_way(core)) {
    if (record.id == id) return std::move(record);
  }
  const auto found = std::ranges::find(core.book.ended(), id, &AnswerRecord::id);
  if (found == core.book.ended().end()) return unknown();
  return *found;
}

std::string last_part(const HttpRequest& request) { return request.path.substr(kRequestsFolder.size()); }

}  // namespace

void explain_plan(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const auto question = plan_question(core, request);
  if (!question) return core.send_error(*reply, kProblems, question.error());
  const auto explain = [&core, asked = *question]() -> Result<std::string> {
    if (!core.workers.contains(asked.model.entry.get())) return core.was_deleted(asked.model.name);
    AnswerPlanner* const planner = asked.model.entry->model.planner;
    if (planner == nullptr) return nothing_planned();
    return planner->explain(asked.prompt_tokens, asked.output_tokens);
  };
  // All plans are weighed, which takes the loop a while.
  core.ask_loop_in_turn(core.access.client_of(request), reply, kProblems, explain);
}

void show_plans(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kProblems, [&core]() -> Result<std::string> {
    if (core.options.cluster == nullptr) return nothing_planned();
    return core.options.cluster->latest(core.book.ended());
  });
}

void show_cluster(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kProblems, [&core]() -> Result<std::string> {
    if (core.options.cluster == nullptr) return nothing_planned();
    return core.options.cluster->cluster();
  });
}

void list_requests(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kProblems, [&core]() -> Result<std::string> {
    std::vector<AnswerRecord> records = answers_under_way(core);
    std::ranges::copy(core.book.ended(), std::back_inserter(records));
    return to_json(std::move(records));
  });
}

void show_request(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kProblems, [&core, text = last_part(request)]() -> Result<std::string> {
    return to_json(TRY(find_answer(core, text)));
  });
}

// Its siblings, answers to the same request, end with it, and for the same reason.
void cancel_request(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kProblems, [&core, text = last_part(request)]() -> Result<std::string> {
    const std::uint64_t id = TRY(find_answer(core, text))
    .id;
    const std::vector<AnswerRecord> answers = answers_under_way(core);
    const auto asked = std::ranges::find(answers, id, &AnswerRecord::id);
    for (const AnswerRecord& answer : answers) {
      if (asked == answers.end() || answer.request != asked->request) continue;
      for (const auto& [entry, held] : core.workers) {
        held.generator->cancel(answer.id, "somebody has cancelled the request");
      }
    }
    return to_json(TRY(find_answer(core, text)));
  });
}

}  // namespace baton::serve
