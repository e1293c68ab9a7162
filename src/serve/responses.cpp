#include "serve/responses.h"

#include <format>

#include "serve/openai.h"

namespace baton::serve::responses {

namespace {

struct Asked {
  std::string model;
  std::optional<std::string> instructions;
  std::optional<std::uint32_t> max_output_tokens;
  double temperature = 1;
  double top_p = 1;
};

class Format : public AnswerFormat {
 public:
  explicit Format(Asked asked)
      : asked_(std::move(asked)), id_(new_id("resp")), item_id_(new_id("msg")), created_(unix_time()) {}

  std::string whole(std::span<const Choice> choices) override {
    return response(status_of(choices.front().end), &choices.front());
  }
  std::string begin() override {
    const std::string empty = response("in_progress", nullptr);
    return event("response.created", JsonObject().raw("response", empty)) +
           event("response.in_progress", JsonObject().raw("response", empty)) +
           event("response.output_item.added",
                 JsonObject().integer("output_index", 0).raw("item", item("in_progress", "[]"))) +
           event("response.content_part.added", place().raw("part", part("")));
  }
  std::string piece(std::size_t, const Piece& piece) override {
    text_ += piece.text;
    return event("response.output_text.delta", place().text("delta", piece.text).raw("logprobs", "[]"));
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    const std::string content = std::format("[{}]", part(text_));
    return event("response.output_text.done", place().text("text", text_).raw("logprobs", "[]")) +
           event("response.content_part.done", place().raw("part", part(text_))) +
           event("response.output_item.done",
                 JsonObject().integer("output_index", 0).raw("item", item(status_of(end), content)));
  }
  std::string end(std::span<const Choice> choices) override {
    Choice choice = choices.front();
    choice.text = text_;
    const std::string_view status = status_of(choice.end);
    return event(std::format("response.{}", status), JsonObject().raw("response", response(status, &choice)));
  }
  std::string error(const Error& error) override {
    JsonObject object;
    object.text("code", error_code_name(error.code)).text("message", error.message).null("param");
    return event("error", object);
  }

 private:
  static std::string_view status_of(const AnswerEnd& end) {
    return end.reason == EndReason::kLength ? "incomplete" : "completed";
  }
  static std::string part(std::string_view text) {
    return JsonObject()
        .text("type", "output_text")
        .text("text", text)
        .raw("annotations", "[]")
        .raw("logprobs", "[]")
        .str();
  }
  JsonObject place() const {
    JsonObject object;
    return object.text("item_id", item_id_).integer("output_index", 0).integer("content_index", 0);
  }
  std::string item(std::string_view status, std::string_view content) const {
    return JsonObject()
        .text("type", "message")
        .text("id", item_id_)
        .text("status", status)
        .text("role", "assistant")
        .raw("content", content)
        .str();
  }
  std::string event(std::string_view type, const JsonObject& members) {
    JsonObject object;
    object.text("type", type).integer("sequence_number", sequence_number_++);
    const std::string rest = members.str();
    std::string data = object.str();
    data.back() = ',';
    return server_sent_event(data + rest.substr(1), type);
  }
  // Without a choice: the answer has only begun.
  std::string response(std::string_view status, const Choice* choice) const {
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
    object.text("model", asked_.model);
    const std::string content = choice == nullptr ? "" : std::format("[{}]", part(choice->text));
    object.raw("output", choice == nullptr ? "[]" : std::format("[{}]", item(status, content)));
    object.flag("parallel_tool_calls", false).null("previous_response_id").flag("store", false);
    object.number("temperature", asked_.temperature).number("top_p", asked_.top_p);
    object.raw("text", R"({"format":{"type":"text"}})").text("tool_choice", "auto").raw("tools", "[]");
    object.text("truncation", "disabled").raw("metadata", "{}");
    if (choice == nullptr) return object.null("usage").str();
    const AnswerEnd& end = choice->end;
    object.raw("usage", JsonObject()
                            .integer("input_tokens", end.prompt_tokens)
                            .raw("input_tokens_details", JsonObject().integer("cached_tokens", end.cached_tokens).str())
                            .integer("output_tokens", end.new_tokens)
                            .raw("output_tokens_details", R"({"reasoning_tokens":0})")
                            .integer("total_tokens", std::int64_t{end.prompt_tokens} + end.new_tokens)
                            .str());
    return object.str();
  }

  const Asked asked_;
  const std::string id_;
  const std::string item_id_;
  const std::int64_t created_;
  std::int64_t sequence_number_ = 0;
  std::string text_;
};

Result<void> check_text_format(Fields& body) {
  const Json* text = body.take("text");
  if (text == nullptr) return {};
  Fields fields = TRY(Fields::of(*text, "text"));
  if (const Json* format = fields.take("format")) {
    Fields inner = TRY(Fields::of(*format, "text.format"));
    const std::string type = TRY(inner.required_text("type"));
    if (type != "text") {
      return fail(ErrorCode::kUnsupported, std::format("'text.format.type' '{}' is not supported by this server", type),
                  "text.format.type");
    }
  }
  return fields.refuse_rest();
}

}  // namespace

Result<ParsedRequest> parse(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(openai::check_model(body, model));
  ParsedRequest parsed;
  CanonicalRequest& request = parsed.request;
  Asked asked {
    .model = model.id(), .instructions = TRY(body.text("instructions"))
    , .max_output_tokens = std::nullopt
  };
  if (const auto most = TRY(body.integer("max_output_tokens", 1, UINT32_MAX / 2))) {
    asked.max_output_tokens = static_cast<std::uint32_t>(*most);
  }
  request.max_new_tokens = asked.max_output_tokens;
  asked.temperature = TRY(body.number("temperature", 0, 2))
  .value_or(1);
  asked.top_p = TRY(body.number("top_p", 0, 1))
  .value_or(1);
  request.sampler.temperature = static_cast<float>(asked.temperature);
  request.sampler.top_p = static_cast<float>(asked.top_p);
  request.sampler.seed = random_seed();
  parsed.delivery = TRY(body.flag("stream"))
  .value_or(false) ? Delivery::kStream : Delivery::kWhole;
  TRY(check_text_format(body));
  if (TRY(body.text("truncation")).value_or("disabled") != "disabled") {
    return fail(ErrorCode::kUnsupported, "'truncation' can only be 'disabled' on this server", "truncation");
  }

  text::ChatRequest chat;
  if (asked.instructions) chat.messages.push_back({.role = text::Role::kSystem, .content = *asked.instructions});
  const Json* input = body.take("input");
  if (input != nullptr && input->is_string()) {
    chat.messages.push_back({.role = text::Role::kUser, .content = input->get<std::string>()});
  } else {
    for (text::ChatMessage& message : TRY(openai::parse_messages(input, body, "input"))) {
      chat.messages.push_back(std::move(message));
    }
  }
  TRY(openai::refuse_storing(body));
  body.allow({"metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier"});
  TRY(body.refuse_rest());
  request.prompts.push_back(TRY(model.chat_prompt(std::move(chat))));
  parsed.format = std::make_unique<Format>(std::move(asked));
  return parsed;
}

}  // namespace baton::serve::responses
