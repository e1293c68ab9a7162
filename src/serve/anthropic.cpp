#include "serve/anthropic.h"

#include <format>

#include "base/error_table.h"
#include "serve/chat_tools.h"
#include "serve/openai.h"

namespace baton::serve::anthropic {

namespace {

constexpr std::size_t kMostStops = 16;

std::string_view stop_reason(EndReason reason) {
  switch (reason) {
    case EndReason::kEndOfText: return "end_turn";
    case EndReason::kStopText: return "stop_sequence";
    case EndReason::kLength: return "max_tokens";
    case EndReason::kCalls: return "tool_use";
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

// A block of a message's content, whole.
std::string text_block(std::string_view text) { return typed("text").text("text", text).str(); }
std::string thought_block(std::string_view thought) {
  return typed("thinking").text("thinking", thought).text("signature", "").str();
}
JsonObject call_block(const FunctionCall& call) {
  JsonObject object = typed("tool_use");
  return object.text("id", call.id).text("name", call.name);
}

class Format : public AnswerFormat {
 public:
  Format(std::string model, std::size_t prompt_tokens)
      : model_(std::move(model)), id_(new_id("msg")), prompt_tokens_(prompt_tokens) {}

  std::string whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    std::vector<std::string> blocks;
    if (!choice.reasoning.empty()) blocks.push_back(thought_block(choice.reasoning));
    if (!choice.text.empty()) blocks.push_back(text_block(choice.text));
    for (const FunctionCall& call : choice.calls) blocks.push_back(call_block(call).raw("input", call.arguments).str());
    if (blocks.empty()) blocks.push_back(text_block(""));
    JsonObject message = head();
    message.raw("content", json_array(blocks));
    add_stop(message, choice.end);
    return message.raw("usage", usage(choice.end.prompt_tokens, choice.end.cached_tokens, choice.end.new_tokens)).str();
  }
  std::string begin() override {
    JsonObject message = head();
    message.raw("content", "[]").null("stop_reason").null("stop_sequence").raw("usage", usage(prompt_tokens_, 0, 0));
    return event("message_start", typed("message_start").raw("message", message.str()));
  }
  std::string piece(std::size_t, const Piece& piece) override {
    std::string events;
    if (!piece.reasoning.empty()) {
      events += open(Block::kThought);
      events += delta(typed("thinking_delta").text("thinking", piece.reasoning));
    }
    if (!piece.text.empty()) {
      events += open(Block::kText);
      events += delta(typed("text_delta").text("text", piece.text));
    }
    for (const FunctionCall& call : piece.calls) {
      events += close();
      open_ = Block::kCall;
      events += start(call_block(call).raw("input", "{}").str());
      events += delta(typed("input_json_delta").text("partial_json", call.arguments));
      events += close();
    }
    return events;
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    std::string events = index_ == 0 ? open(Block::kText) : std::string();
    events += close();
    JsonObject stop;
    add_stop(stop, end);
    JsonObject message = typed("message_delta");
    message.raw("delta", stop.str()).raw("usage", usage(end.prompt_tokens, end.cached_tokens, end.new_tokens));
    return events + event("message_delta", message);
  }
  std::string end(std::span<const Choice>) override { return event("message_stop", typed("message_stop")); }
  std::string error(const Error& error) override {
    return server_sent_event(error_body(http_status(error.code), error), "error");
  }

 private:
  enum class Block { kNone, kText, kThought, kCall };

  JsonObject head() const {
    JsonObject message;
    message.text("id", id_).text("type", "message").text("role", "assistant").text("model", model_);
    return message;
  }
  std::string start(std::string_view block) const {
    return event("content_block_start",
                 typed("content_block_start").integer("index", index_).raw("content_block", block));
  }
  std::string delta(const JsonObject& delta) const {
    return event("content_block_delta",
                 typed("content_block_delta").integer("index", index_).raw("delta", delta.str()));
  }
  std::string open(Block block) {
    if (open_ == block) return {};
    const std::string events = close();
    open_ = block;
    return events + start(block == Block::kText ? text_block("") : thought_block(""));
  }
  std::string close() {
    if (open_ == Block::kNone) return {};
    // Whoever made the thoughts signs nothing; clients wait for the field.
    std::string events =
        open_ == Block::kThought ? delta(typed("signature_delta").text("signature", "")) : std::string();
    open_ = Block::kNone;
    events += event("content_block_stop", typed("content_block_stop").integer("index", index_));
    ++index_;
    return events;
  }

  const std::string model_;
  const std::string id_;
  const std::size_t prompt_tokens_;
  Block open_ = Block::kNone;
  std::int64_t index_ = 0;  // of the open block, or of the next
};

// Text, or an array of text blocks.
Result<std::string> parse_texts(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be a string or an array of text blocks", path),
                path);
  }
  std::string words;
  for (std::size_t index = 0; index < value.get_array().size(); ++index) {
    Fields block = TRY(Fields::of(value.get_array()[index], std::format("{}[{}]", path, index)));
    const std::string type = TRY(block.required_text("type"));
    if (type != "text") {
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}' is '{}': only text is read here", block.path_of("type"), type),
                  block.path_of("type"));
    }
    if (!words.empty()) words += '\n';
    words += TRY(block.required_text("text"));
    block.allow({"cache_control", "citations"});
    TRY(block.refuse_rest());
  }
  return words;
}

// One message of the API may be several of a template's: what functions gave comes from the user here.
Result<void> parse_block(const Json& value, const std::string& path, text::ChatMessage& message,
                         std::vector<text::ChatMessage>& before) {
  Fields block = TRY(Fields::of(value, path));
  const std::string type = TRY(block.required_text("type"));
  const bool of_assistant = message.role == text::Role::kAssistant;
  block.allow({"cache_control"});
  if (type == "text") {
    auto& parts = std::get<std::vector<text::ContentPart>>(message.content);
    parts.push_back({ .type = "text", .text = TRY(block.required_text("text")) });
    block.allow({"citations"});
  } else if (type == "thinking" && of_assistant) {
    message.reasoning_content = message.reasoning_content.value_or("") + TRY(block.required_text("thinking"));
    block.allow({"signature"});
  } else if (type == "tool_use" && of_assistant) {
    text::ToolCall& call = message.tool_calls.emplace_back();
    call.id = TRY(block.required_text("id"));
    call.name = TRY(block.required_text("name"));
    const Json* input = block.take("input");
    if (input == nullptr || !input->is_object()) return block.wrong("input", "must be an object");
    call.arguments_json = to_json(*input);
  } else if (type == "tool_result" && !of_assistant) {
    text::ChatMessage& result = before.emplace_back();
    result.role = text::Role::kTool;
    result.tool_call_id = TRY(block.required_text("tool_use_id"));
    const Json* content = block.take("content");
    result.content = content == nullptr ? std::string() : TRY(parse_texts(*content, block.path_of("content")));
    // Templates have no place for it: the result says itself what went wrong.
    TRY(block.flag("is_error"));
  } else {
    return fail(
        ErrorCode::kUnsupported,
        std::format("'{}' is '{}', which is not supported in a message of this role", block.path_of("type"), type),
        block.path_of("type"));
  }
  return block.refuse_rest();
}

Result<void> parse_message(const Json& value, const std::string& path, std::vector<text::ChatMessage>& messages) {
  Fields fields = TRY(Fields::of(value, path));
  const std::string role = TRY(fields.required_text("role"));
  if (role != "user" && role != "assistant") return fields.wrong("role", "must be user or assistant");
  text::ChatMessage message;
  message.role = role == "user" ? text::Role::kUser : text::Role::kAssistant;
  const Json* content = fields.take("content");
  TRY(fields.refuse_rest());
  if (content == nullptr) return fields.wrong("content", "is missing");
  if (content->is_string()) {
    message.content = content->get<std::string>();
    messages.push_back(std::move(message));
    return {};
  }
  if (!content->is_array()) return fields.wrong("content", "must be a string or an array of blocks");
  message.content = std::vector<text::ContentPart>();
  for (std::size_t index = 0; index < content->get_array().size(); ++index) {
    TRY(parse_block(content->get_array()[index], std::format("{}.content[{}]", path, index), message, messages));
  }
  // As text where it is text alone: many templates know nothing else.
  auto& parts = std::get<std::vector<text::ContentPart>>(message.content);
  std::string words;
  for (const text::ContentPart& part : parts) words += (words.empty() ? "" : "\n") + part.text;
  const bool says_nothing = parts.empty() && message.tool_calls.empty() && !message.reasoning_content;
  message.content = std::move(words);
  if (!says_nothing || content->get_array().empty()) messages.push_back(std::move(message));
  return {};
}

Result<ToolUse> parse_functions(Fields& body) {
  ToolUse use;
  if (const Json* tools = body.take("tools")) {
    if (!tools->is_array()) return body.wrong("tools", "must be an array");
    if (tools->get_array().size() > kMostTools) {
      return body.wrong("tools", std::format("may hold at most {} functions", kMostTools));
    }
    for (std::size_t index = 0; index < tools->get_array().size(); ++index) {
      Fields fields = TRY(Fields::of(tools->get_array()[index], std::format("tools[{}]", index)));
      const std::string type = TRY(fields.text("type"))
      .value_or("custom");
      if (type != "custom") {
        return fail(ErrorCode::kUnsupported,
                    std::format("'{}' is '{}': this server has no tools of its own", fields.path_of("type"), type),
                    fields.path_of("type"));
      }
      Tool tool;
      tool.name = TRY(fields.required_text("name"));
      TRY(check_tool_name(tool.name, fields.path_of("name")));
      const auto description = TRY(fields.text("description"));
      const Json* schema = fields.take("input_schema");
      if (schema == nullptr || !schema->is_object()) return fields.wrong("input_schema", "must be an object");
      if (TRY(fields.flag("strict")).value_or(false)) tool.strictness = Tool::Strictness::kAlways;
      fields.allow({"cache_control"});
      TRY(fields.refuse_rest());
      tool.schema = *schema;
      tool.schema_path = fields.path_of("input_schema");
      tool.json = tool_json(tool.name, description.value_or(""), schema);
      use.tools.push_back(std::move(tool));
    }
  }
  const Json* choice = body.take("tool_choice");
  if (choice == nullptr) return use;
  Fields fields = TRY(Fields::of(*choice, "tool_choice"));
  const std::string type = TRY(fields.required_text("type"));
  if (type == "none") {
    use.choice = ToolChoice::kNone;
  } else if (type == "any" || type == "tool") {
    use.choice = ToolChoice::kRequired;
    if (use.tools.empty()) return body.wrong("tool_choice", "asks for a call, but there are no 'tools'");
    if (type == "tool") use.only = TRY(fields.required_text("name"));
  } else if (type != "auto") {
    return fields.wrong("type", std::format("is '{}', but must be auto, any, tool or none", type));
  }
  if (TRY(fields.flag("disable_parallel_tool_use")).value_or(false)) use.count = ToolUse::Count::kOne;
  TRY(fields.refuse_rest());
  return use;
}

// How much a model may think is its own to know.
Result<void> parse_thinking(Fields& body, const ServedModel& model, text::ChatRequest& chat) {
  const Json* value = body.take("thinking");
  if (value == nullptr) return {};
  Fields fields = TRY(Fields::of(*value, "thinking"));
  const std::string type = TRY(fields.required_text("type"));
  if (type != "enabled" && type != "disabled" && type != "adaptive") {
    return fields.wrong("type", std::format("is '{}', but must be enabled, disabled or adaptive", type));
  }
  TRY(model.thinking().apply(type == "disabled" ? ThinkingWish::kOff : ThinkingWish::kOn, "thinking", chat));
  fields.allow({"budget_tokens", "display"});
  return fields.refuse_rest();
}

struct Asked {
  text::ChatRequest chat;
  AnswerForm form;
  AnswerStart start = AnswerStart::kNewMessage;
};

// As this API has it, an assistant's message at the end is the beginning of the answer.
Result<void> choose_start(const Fields& body, Asked& asked) {
  if (asked.chat.messages.empty()) return body.wrong("messages", "say nothing");
  const text::ChatMessage& last = asked.chat.messages.back();
  if (last.role != text::Role::kAssistant) return {};
  if (!last.tool_calls.empty()) return body.wrong("messages", "end with calls that have no results");
  if (asked.form.tools.choice == ToolChoice::kRequired) {
    return body.wrong("tool_choice", "cannot ask for a call where the last message is the answer's beginning");
  }
  asked.start = AnswerStart::kWithinLastMessage;
  return {};
}

// The conversation, with the system's words in front, and what may be called.
Result<Asked> parse_conversation(Fields& body, const ServedModel& model) {
  Asked asked;
  if (const Json* system = body.take("system")) {
    std::string words = TRY(parse_texts(*system, "system"));
    if (!words.empty()) asked.chat.messages.push_back({.role = text::Role::kSystem, .content = std::move(words)});
  }
  const Json* messages = body.take("messages");
  if (messages == nullptr || !messages->is_array() || messages->get_array().empty()) {
    return body.wrong("messages", "must be an array of messages");
  }
  for (std::size_t index = 0; index < messages->get_array().size(); ++index) {
    TRY(parse_message(messages->get_array()[index], std::format("messages[{}]", index), asked.chat.messages));
  }
  asked.form.tools = TRY(parse_functions(body));
  TRY(parse_thinking(body, model, asked.chat));
  TRY(choose_start(body, asked));
  return asked;
}

}  // namespace

Result<ParsedRequest> parse_messages(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  std::string called = TRY(openai::take_model(body));
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
  Asked asked = TRY(parse_conversation(body, model));
  body.allow({"metadata", "service_tier"});
  TRY(body.refuse_rest());
  TRY(ask(model, std::move(asked.chat), std::move(asked.form), parsed, asked.start));
  parsed.format = std::make_unique<Format>(std::move(called), request.prompts.front().size());
  return parsed;
}

Result<std::string> count_tokens(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(openai::take_model(body));
  Asked asked = TRY(parse_conversation(body, model));
  TRY(body.refuse_rest());
  ParsedRequest parsed;
  TRY(ask(model, std::move(asked.chat), std::move(asked.form), parsed, asked.start));
  const auto tokens = static_cast<std::int64_t>(parsed.request.prompts.front().size());
  return JsonObject().integer("input_tokens", tokens).str();
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
