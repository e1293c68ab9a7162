#include "serve/responses_format.h"

#include <format>

#include "serve/json.h"

namespace baton::serve::responses {

namespace {

std::string_view status_of(const AnswerEnd& end) {
  return end.reason == EndReason::kLength ? "incomplete" : "completed";
}

std::string text_part(std::string_view text) {
  return JsonObject()
      .text("type", "output_text")
      .text("text", text)
      .raw("annotations", "[]")
      .raw("logprobs", "[]")
      .str();
}
std::string thought_part(std::string_view thought) {
  return JsonObject().text("type", "reasoning_text").text("text", thought).str();
}

enum class Kind { kThought, kText };

// A part of the answer that grows.
struct Item {
  Kind kind = Kind::kText;
  std::string id;
  std::string words = {};

  std::string json(std::string_view status, std::string_view parts) const {
    JsonObject object;
    if (kind == Kind::kThought) {
      object.text("type", "reasoning").text("id", id).text("status", status).raw("summary", "[]");
    } else {
      object.text("type", "message").text("id", id).text("status", status).text("role", "assistant");
    }
    return object.raw("content", parts).str();
  }
  std::string part() const { return kind == Kind::kThought ? thought_part(words) : text_part(words); }
  std::string whole(std::string_view status) const { return json(status, std::format("[{}]", part())); }
};

Item new_item(Kind kind) { return {kind, new_id(kind == Kind::kThought ? "rs" : "msg")}; }

std::string call_json(const std::string& id, const FunctionCall& call, std::string_view status,
                      std::string_view arguments) {
  return JsonObject()
      .text("type", "function_call")
      .text("id", id)
      .text("call_id", call.id)
      .text("name", call.name)
      .text("arguments", arguments)
      .text("status", status)
      .str();
}

class Format : public AnswerFormat {
 public:
  explicit Format(Asked asked) : asked_(std::move(asked)), id_(new_id("resp")), created_(unix_time()) {}

  std::string whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    const std::string_view status = status_of(choice.end);
    const auto add = [&](Kind kind, const std::string& words) {
      Item item = new_item(kind);
      item.words = words;
      output_.push_back(item.whole(kind == Kind::kThought ? "completed" : status));
    };
    if (!choice.reasoning.empty()) add(Kind::kThought, choice.reasoning);
    if (!choice.text.empty() || choice.calls.empty()) add(Kind::kText, choice.text);
    for (const FunctionCall& call : choice.calls) {
      output_.push_back(call_json(new_id("fc"), call, "completed", call.arguments));
    }
    return response(status, &choice.end);
  }
  std::string begin() override {
    const std::string empty = response("in_progress", nullptr);
    // One by one: each takes the next number.
    std::string events = event("response.created", JsonObject().raw("response", empty));
    events += event("response.in_progress", JsonObject().raw("response", empty));
    return events;
  }
  std::string piece(std::size_t, const Piece& piece) override {
    std::string events;
    if (!piece.reasoning.empty()) {
      events += open(Kind::kThought);
      open_->words += piece.reasoning;
      events += event("response.reasoning_text.delta", place().text("delta", piece.reasoning));
    }
    if (!piece.text.empty()) {
      events += open(Kind::kText);
      open_->words += piece.text;
      events += event("response.output_text.delta", place().text("delta", piece.text).raw("logprobs", "[]"));
    }
    for (const FunctionCall& call : piece.calls) {
      events += close("completed");
      events += call_events(call);
    }
    return events;
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    std::string events;
    if (!open_ && output_.empty()) events += open(Kind::kText);
    return events + close(status_of(end));
  }
  std::string end(std::span<const Choice> choices) override {
    const AnswerEnd& end = choices.front().end;
    const std::string_view status = status_of(end);
    return event(std::format("response.{}", status), JsonObject().raw("response", response(status, &end)));
  }
  std::string error(const Error& error) override {
    JsonObject object;
    object.text("code", error_code_name(error.code)).text("message", error.message).null("param");
    return event("error", object);
  }

 private:
  std::int64_t index() const { return static_cast<std::int64_t>(output_.size()); }
  JsonObject place() const {
    JsonObject object;
    return object.text("item_id", open_->id).integer("output_index", index()).integer("content_index", 0);
  }
  JsonObject item_place(std::string_view item) const {
    JsonObject object;
    return object.integer("output_index", index()).raw("item", item);
  }

  std::string open(Kind kind) {
    if (open_ && open_->kind == kind) return {};
    std::string events = close("completed");
    open_ = new_item(kind);
    events += event("response.output_item.added", item_place(open_->json("in_progress", "[]")));
    if (kind == Kind::kText) events += event("response.content_part.added", place().raw("part", open_->part()));
    return events;
  }
  std::string close(std::string_view status) {
    if (!open_) return {};
    std::string events;
    if (open_->kind == Kind::kText) {
      events += event("response.output_text.done", place().text("text", open_->words).raw("logprobs", "[]"));
      events += event("response.content_part.done", place().raw("part", open_->part()));
    } else {
      events += event("response.reasoning_text.done", place().text("text", open_->words));
    }
    const std::string item = open_->whole(status);
    events += event("response.output_item.done", item_place(item));
    output_.push_back(item);
    open_.reset();
    return events;
  }
  std::string call_events(const FunctionCall& call) {
    const std::string id = new_id("fc");
    JsonObject where;
    where.text("item_id", id).integer("output_index", index());
    std::string events = event("response.output_item.added", item_place(call_json(id, call, "in_progress", "")));
    JsonObject delta = where;
    events += event("response.function_call_arguments.delta", delta.text("delta", call.arguments));
    events +=
        event("response.function_call_arguments.done", where.text("name", call.name).text("arguments", call.arguments));
    const std::string item = call_json(id, call, "completed", call.arguments);
    events += event("response.output_item.done", item_place(item));
    output_.push_back(item);
    return events;
  }

  std::string event(std::string_view type, const JsonObject& members) {
    JsonObject object;
    object.text("type", type).integer("sequence_number", sequence_number_++);
    const std::string rest = members.str();
    std::string data = object.str();
    data.back() = ',';
    return server_sent_event(data + rest.substr(1), type);
  }

  // Without an end: the answer has only begun.
  std::string response(std::string_view status, const AnswerEnd* end) const {
    JsonObject object;
    object.text("id", id_).text("object", "response").integer("created_at", created_).text("status", status);
    object.null("error");
    if (status == "incomplete") {
      object.raw("incomplete_details", R"({"reason":"max_output_tokens"})");
    } else {
      object.null("incomplete_details");
    }
    if (asked_.instructions) {
      object.text("instructions", *asked_.instructions);
    } else {
      object.null("instructions");
    }
    if (asked_.max_output_tokens) {
      object.integer("max_output_tokens", *asked_.max_output_tokens);
    } else {
      object.null("max_output_tokens");
    }
    object.text("model", asked_.model).raw("output", json_array(output_));
    object.flag("parallel_tool_calls", asked_.parallel_tool_calls).null("previous_response_id").flag("store", false);
    object.number("temperature", asked_.temperature).number("top_p", asked_.top_p);
    object.raw("text", JsonObject().raw("format", asked_.text_format).str());
    object.raw("tool_choice", asked_.tool_choice).raw("tools", asked_.tools);
    object.text("truncation", "disabled").raw("metadata", "{}");
    if (end == nullptr) return object.null("usage").str();
    JsonObject usage;
    usage.integer("input_tokens", end->prompt_tokens);
    usage.raw("input_tokens_details", JsonObject().integer("cached_tokens", end->cached_tokens).str());
    usage.integer("output_tokens", end->new_tokens);
    usage.raw("output_tokens_details", R"({"reasoning_tokens":0})");
    usage.integer("total_tokens", std::int64_t{end->prompt_tokens} + end->new_tokens);
    return object.raw("usage", usage.str()).str();
  }

  const Asked asked_;
  const std::string id_;
  const std::int64_t created_;
  std::int64_t sequence_number_ = 0;
  std::vector<std::string> output_;  // items that are whole
  std::optional<Item> open_;         // the one that grows, behind those
};

}  // namespace

std::unique_ptr<AnswerFormat> answer_format(Asked asked) { return std::make_unique<Format>(std::move(asked)); }

}  // namespace baton::serve::responses
