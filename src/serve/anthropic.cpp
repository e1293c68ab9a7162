#include "serve/anthropic.h"

#include <format>

#include "base/error_table.h"
#include "serve/openai.h"

namespace baton::serve::anthropic {

namespace {

constexpr std::size_t kMostStops = 16;

std::string_view stop_reason(EndReason reason) {
  switch (reason) {
    case EndReason::kEndOfText: return "end_turn";
    case EndReason::kStopText: return "stop_sequence";
    case EndReason::kLength: return "max_tokens";
  }
  return "end_turn";
}

void add_stop(JsonObject& object, const AnswerEnd& end) {
  object.text("stop_reason", stop_reason(end.reason));
  if (end.reason == EndReason::kStopText) {
    object.text("stop_sequence", end.stop_text);
  } else {
    object.null("stop_sequence");
  }
}

// This API counts what was read from a cache apart. In a stream the last word counts.
std::string usage(std::size_t prompt_tokens, std::size_t cached_tokens, std::size_t new_tokens) {
  return JsonObject()
      .integer("input_tokens", static_cast<std::int64_t>(prompt_tokens - cached_tokens))
      .integer("cache_creation_input_tokens", 0)
      .integer("cache_read_input_tokens", static_cast<std::int64_t>(cached_tokens))
      .integer("output_tokens", static_cast<std::int64_t>(new_tokens))
      .str();
}

std::string event(std::string_view type, const JsonObject& data) { return server_sent_event(data.str(), type); }

JsonObject typed(std::string_view type) {
  JsonObject object;
  object.text("type", type);
  return object;
}

class Format : public AnswerFormat {
 public:
  Format(std::string model, std::size_t prompt_tokens)
      : model_(std::move(model)), id_(new_id("msg")), prompt_tokens_(prompt_tokens) {}

  std::string whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    JsonObject message = head();
    message.raw("content", std::format("[{}]", typed("text").text("text", choice.text).str()));
    add_stop(message, choice.end);
    return message.raw("usage", usage(choice.end.prompt_tokens, choice.end.cached_tokens, choice.end.new_tokens)).str();
  }
  std::string begin() override {
    JsonObject message = head();
    message.raw("content", "[]").null("stop_reason").null("stop_sequence").raw("usage", usage(prompt_tokens_, 0, 0));
    JsonObject block = typed("content_block_start");
    block.integer("index", 0).raw("content_block", typed("text").text("text", "").str());
    return event("message_start", typed("message_start").raw("message", message.str())) +
           event("content_block_start", block);
  }
  std::string piece(std::size_t, const Piece& piece) override {
    JsonObject delta = typed("content_block_delta");
    delta.integer("index", 0).raw("delta", typed("text_delta").text("text", piece.text).str());
    return event("content_block_delta", delta);
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    JsonObject delta;
    add_stop(delta, end);
    JsonObject message = typed("message_delta");
    message.raw("delta", delta.str()).raw("usage", usage(end.prompt_tokens, end.cached_tokens, end.new_tokens));
    return event("content_block_stop", typed("content_block_stop").integer("index", 0)) +
           event("message_delta", message);
  }
  std::string end(std::span<const Choice>) override { return event("message_stop", typed("message_stop")); }
  std::string error(const Error& error) override {
    return server_sent_event(error_body(http_status(error.code), error), "error");
  }

 private:
  JsonObject head() const {
    JsonObject message;
    message.text("id", id_).text("type", "message").text("role", "assistant").text("model", model_);
    return message;
  }

  const std::string model_;
  const std::string id_;
  const std::size_t prompt_tokens_;
};

// The conversation, with the system's words in front.
Result<text::ChatRequest> parse_conversation(Fields& body) {
  text::ChatRequest chat;
  if (const Json* system = body.take("system")) {
    std::string words;
    if (system->is_string()) {
      words = system->get<std::string>();
    } else if (system->is_array()) {
      for (std::size_t index = 0; index < system->get_array().size(); ++index) {
        Fields block = TRY(Fields::of(system->get_array()[index], std::format("system[{}]", index)));
        if (TRY(block.required_text("type")) != "text") return block.wrong("type", "must be 'text'");
        if (!words.empty()) words += '\n';
        words += TRY(block.required_text("text"));
        block.allow({"cache_control", "citations"});
        TRY(block.refuse_rest());
      }
    } else {
      return body.wrong("system", "must be a string or an array of text blocks");
    }
    if (!words.empty()) chat.messages.push_back({.role = text::Role::kSystem, .content = std::move(words)});
  }
  for (text::ChatMessage& message : TRY(openai::parse_messages(body.take("messages"), body))) {
    if (message.role != text::Role::kUser && message.role != text::Role::kAssistant) {
      return body.wrong("messages", "may have the roles user and assistant alone");
    }
    chat.messages.push_back(std::move(message));
  }
  return chat;
}

}  // namespace

Result<ParsedRequest> parse_messages(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(openai::check_model(body, model));
  ParsedRequest parsed;
  CanonicalRequest& request = parsed.request;
  const auto most = TRY(body.integer("max_tokens", 1, UINT32_MAX / 2));
  if (!most) return body.wrong("max_tokens", "is missing");
  request.max_new_tokens = static_cast<std::uint32_t>(*most);
  engine::SamplerOptions& sampler = request.sampler;
  sampler.temperature = static_cast<float>(TRY(body.number("temperature", 0, 1)).value_or(1));
  sampler.top_p = static_cast<float>(TRY(body.number("top_p", 0, 1)).value_or(1));
  sampler.top_k = static_cast<std::uint32_t>(TRY(body.integer("top_k", 0, UINT32_MAX)).value_or(0));
  sampler.seed = random_seed();
  request.stops = TRY(body.texts("stop_sequences", kMostStops));
  for (const std::string& stop : request.stops) {
    if (stop.empty()) return body.wrong("stop_sequences", "holds an empty string");
  }
  parsed.delivery = TRY(body.flag("stream"))
  .value_or(false) ? Delivery::kStream : Delivery::kWhole;
  text::ChatRequest chat = TRY(parse_conversation(body));
  body.allow({"metadata", "service_tier"});
  TRY(body.refuse_rest());
  request.prompts.push_back(TRY(model.chat_prompt(std::move(chat))));
  parsed.format = std::make_unique<Format>(model.id(), request.prompts.front().size());
  return parsed;
}

Result<std::string> count_tokens(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(openai::check_model(body, model));
  text::ChatRequest chat = TRY(parse_conversation(body));
  TRY(body.refuse_rest());
  const auto prompt = TRY(model.chat_prompt(std::move(chat)));
  return JsonObject().integer("input_tokens", static_cast<std::int64_t>(prompt.size())).str();
}

std::string error_body(int status, const Error& error) {
  const auto type = [&]() -> std::string_view {
    switch (status) {
      case 401: return "authentication_error";
      case 403: return "permission_error";
      case 404: return "not_found_error";
      case 413: return "request_too_large";
      case 429: return "rate_limit_error";
      case 503: return "overloaded_error";
      default: return status < 500 ? "invalid_request_error" : "api_error";
    }
  };
  return typed("error").raw("error", typed(type()).text("message", error.message).str()).str();
}

}  // namespace baton::serve::anthropic
