#include "serve/responses.h"

#include <format>

#include "serve/chat_tools.h"
#include "serve/openai.h"

namespace baton::serve::responses {

namespace {

struct Asked {
  std::string model;
  std::optional<std::string> instructions;
  std::optional<std::uint32_t> max_output_tokens;
  double temperature = 1;
  double top_p = 1;
  std::string text_format = R"({"type":"text"})";
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
    // One by one: each takes the next number.
    std::string events = event("response.created", JsonObject().raw("response", empty));
    events += event("response.in_progress", JsonObject().raw("response", empty));
    return events;
  }
  std::string piece(std::size_t, const Piece& piece) override {
    std::string events;
    if (!piece.reasoning.empty()) {
      if (thought_.empty()) events += added(0, reasoning_item("in_progress", "[]"));
      thought_ += piece.reasoning;
      events += event("response.reasoning_text.delta", thought_place().text("delta", piece.reasoning));
    }
    if (piece.text.empty()) return events;
    events += open_message();
    text_ += piece.text;
    events += event("response.output_text.delta", place().text("delta", piece.text).raw("logprobs", "[]"));
    return events;
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    const std::string content = std::format("[{}]", part(text_));
    std::string events = open_message();
    events += event("response.output_text.done", place().text("text", text_).raw("logprobs", "[]"));
    events += event("response.content_part.done", place().raw("part", part(text_)));
    events += event("response.output_item.done",
                    JsonObject().integer("output_index", message_index()).raw("item", item(status_of(end), content)));
    return events;
  }
  std::string end(std::span<const Choice> choices) override {
    Choice choice = choices.front();
    choice.text = text_;
    choice.reasoning = thought_;
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
    return object.text("item_id", item_id_).integer("output_index", message_index()).integer("content_index", 0);
  }
  JsonObject thought_place() const {
    JsonObject object;
    return object.text("item_id", thought_id_).integer("output_index", 0).integer("content_index", 0);
  }
  // Behind the thoughts, where there are any.
  std::int64_t message_index() const { return thought_.empty() ? 0 : 1; }
  std::string added(std::int64_t index, std::string_view made) {
    return event("response.output_item.added", JsonObject().integer("output_index", index).raw("item", made));
  }
  // Ends the thoughts and begins the message, where that has not happened.
  std::string open_message() {
    if (message_open_) return {};
    message_open_ = true;
    std::string events;
    if (!thought_.empty()) {
      events = event("response.reasoning_text.done", thought_place().text("text", thought_));
      events += event(
          "response.output_item.done",
          JsonObject().integer("output_index", 0).raw("item", reasoning_item("completed", thought_part(thought_))));
    }
    events += added(message_index(), item("in_progress", "[]"));
    events += event("response.content_part.added", place().raw("part", part("")));
    return events;
  }
  static std::string thought_part(std::string_view thought) {
    return std::format("[{}]", JsonObject().text("type", "reasoning_text").text("text", thought).str());
  }
  std::string reasoning_item(std::string_view status, std::string_view content) const {
    return JsonObject()
        .text("type", "reasoning")
        .text("id", thought_id_)
        .text("status", status)
        .raw("summary", "[]")
        .raw("content", content)
        .str();
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
    std::vector<std::string> output;
    if (choice != nullptr) {
      if (!choice->reasoning.empty()) output.push_back(reasoning_item("completed", thought_part(choice->reasoning)));
      output.push_back(item(status, std::format("[{}]", part(choice->text))));
    }
    object.raw("output", json_array(output));
    object.flag("parallel_tool_calls", false).null("previous_response_id").flag("store", false);
    object.number("temperature", asked_.temperature).number("top_p", asked_.top_p);
    object.raw("text", JsonObject().raw("format", asked_.text_format).str())
        .text("tool_choice", "auto")
        .raw("tools", "[]");
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
  const std::string thought_id_ = new_id("rs");
  std::int64_t sequence_number_ = 0;
  std::string text_;
  std::string thought_;
  bool message_open_ = false;
};

Result<void> parse_text(Fields& body, AnswerForm& form, std::string& echoed) {
  const Json* text = body.take("text");
  if (text == nullptr) return {};
  Fields fields = TRY(Fields::of(*text, "text"));
  if (const Json* format = fields.take("format")) {
    TRY(openai::parse_text_format(*format, "text.format", openai::SchemaPlace::kBeside, form));
    echoed = to_json(*format);
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
  AnswerForm form;
  TRY(parse_text(body, form, asked.text_format));
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
  TRY(ask(model, std::move(chat), std::move(form), parsed));
  parsed.format = std::make_unique<Format>(std::move(asked));
  return parsed;
}

}  // namespace baton::serve::responses
