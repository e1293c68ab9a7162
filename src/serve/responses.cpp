#include "serve/responses.h"

#include <format>

#include "serve/chat_tools.h"
#include "serve/openai.h"
#include "serve/responses_format.h"

namespace baton::serve::responses {

namespace {

using text::ChatMessage;
using text::Role;

Result<void> parse_text(Fields& body, AnswerForm& form, std::string& echoed) {
  const Json* text = body.take("text");
  if (text == nullptr) return {};
  Fields fields = TRY(Fields::of(*text, "text"));
  if (const Json* format = fields.take("format")) {
    TRY(openai::parse_text_format(*format, "text.format", Nesting::kBeside, form));
    echoed = to_json(*format);
  }
  return fields.refuse_rest();
}

Result<void> parse_reasoning(Fields& body, const ServedModel& model, text::ChatRequest& chat) {
  const Json* reasoning = body.take("reasoning");
  if (reasoning == nullptr) return {};
  Fields fields = TRY(Fields::of(*reasoning, "reasoning"));
  TRY(openai::parse_effort(fields, "effort", model, chat));
  // Whoever wants a summary gets the thoughts themselves.
  fields.allow({"summary"});
  return fields.refuse_rest();
}

// An assistant's message that what comes next may still belong to; what it thought, said and called are items of their
// own here.
ChatMessage* open_turn(std::vector<ChatMessage>& messages) {
  if (messages.empty() || messages.back().role != Role::kAssistant) return nullptr;
  return &messages.back();
}

Result<void> add_thoughts(Fields& item, std::vector<ChatMessage>& messages) {
  const Json* encrypted = item.take("encrypted_content");
  if (encrypted != nullptr) return item.wrong("encrypted_content", "is of another server");
  const Json* content = item.take("content");
  std::string thoughts;
  if (content != nullptr) {
    if (!content->is_array()) return item.wrong("content", "must be an array");
    for (std::size_t index = 0; index < content->get_array().size(); ++index) {
      Fields part = TRY(Fields::of(content->get_array()[index], std::format("{}[{}]", item.path_of("content"), index)));
      if (TRY(part.required_text("type")) != "reasoning_text") return part.wrong("type", "must be 'reasoning_text'");
      thoughts += TRY(part.required_text("text"));
      TRY(part.refuse_rest());
    }
  }
  item.allow({"summary"});
  messages.push_back({.role = Role::kAssistant, .reasoning_content = std::move(thoughts)});
  return {};
}

Result<void> add_call(Fields& item, std::vector<ChatMessage>& messages) {
  text::ToolCall call;
  call.id = TRY(item.required_text("call_id"));
  call.name = TRY(item.required_text("name"));
  call.arguments_json = TRY(item.required_text("arguments"));
  if (call.arguments_json.empty()) call.arguments_json = "{}";
  item.allow({"parsed_arguments"});  // what OpenAI's clients read of `arguments`, and send back
  ChatMessage* turn = open_turn(messages);
  if (turn == nullptr) turn = &messages.emplace_back(ChatMessage{.role = Role::kAssistant});
  turn->tool_calls.push_back(std::move(call));
  return {};
}

Result<void> add_result(Fields& item, std::vector<ChatMessage>& messages) {
  ChatMessage result{.role = Role::kTool};
  result.tool_call_id = TRY(item.required_text("call_id"));
  const Json* output = item.take("output");
  if (output == nullptr) return item.wrong("output", "is missing");
  if (output->is_string()) {
    result.content = output->get<std::string>();
  } else if (output->is_array()) {
    result.content = TRY(openai::parse_parts(output->get_array(), item.path_of("output")));
  } else {
    return item.wrong("output", "must be a string or an array of parts");
  }
  messages.push_back(std::move(result));
  return {};
}

Result<void> add_item(const Json& value, const std::string& path, std::vector<ChatMessage>& messages) {
  Fields item = TRY(Fields::of(value, path));
  const std::string type = TRY(item.text("type"))
  .value_or("message");
  if (type == "message") {
    ChatMessage message = TRY(openai::parse_message(value, path));
    ChatMessage* turn = open_turn(messages);
    // Thoughts come before what they led to.
    const bool only_thought = turn != nullptr && std::holds_alternative<std::monostate>(turn->content) &&
                              turn->tool_calls.empty() && message.role == Role::kAssistant;
    if (only_thought) {
      turn->content = std::move(message.content);
    } else {
      messages.push_back(std::move(message));
    }
    return {};
  }
  item.allow({"id", "status"});
  if (type == "function_call") {
    TRY(add_call(item, messages));
  } else if (type == "function_call_output") {
    TRY(add_result(item, messages));
  } else if (type == "reasoning") {
    TRY(add_thoughts(item, messages));
  } else {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is '{}': messages, functions' calls and their outputs, and reasoning are read here",
                            item.path_of("type"), type),
                item.path_of("type"));
  }
  return item.refuse_rest();
}

Result<void> parse_input(Fields& body, std::vector<ChatMessage>& messages) {
  const Json* input = body.take("input");
  if (input != nullptr && input->is_string()) {
    messages.push_back({.role = Role::kUser, .content = input->get<std::string>()});
    return {};
  }
  if (input == nullptr) return body.wrong("input", "is missing");
  if (!input->is_array() || input->get_array().empty()) {
    return body.wrong("input", "must be a string or an array of items");
  }
  for (std::size_t index = 0; index < input->get_array().size(); ++index) {
    TRY(add_item(input->get_array()[index], std::format("input[{}]", index), messages));
  }
  return {};
}

Result<ToolUse> parse_functions(Fields& body, Asked& asked) {
  if (const Json* tools = body.take("tools")) asked.tools = to_json(*tools);
  if (const Json* choice = body.take("tool_choice")) asked.tool_choice = to_json(*choice);
  ToolUse use = TRY(parse_tools(body, Nesting::kBeside));
  asked.parallel_tool_calls = use.count == ToolUse::Count::kSeveral;
  return use;
}

}  // namespace

Result<ParsedRequest> parse(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  std::string called = TRY(openai::take_model(body));
  ParsedRequest parsed;
  CanonicalRequest& request = parsed.request;
  Asked asked {
    .model = std::move(called), .instructions = TRY(body.text("instructions"))
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
  form.tools = TRY(parse_functions(body, asked));
  if (TRY(body.text("truncation")).value_or("disabled") != "disabled") {
    return fail(ErrorCode::kUnsupported, "'truncation' can only be 'disabled' on this server", "truncation");
  }
  text::ChatRequest chat;
  TRY(parse_reasoning(body, model, chat));
  if (asked.instructions) chat.messages.push_back({.role = Role::kSystem, .content = *asked.instructions});
  TRY(parse_input(body, chat.messages));
  TRY(openai::refuse_storing(body));
  body.allow({"metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier"});
  TRY(body.refuse_rest());
  TRY(ask(model, std::move(chat), std::move(form), parsed));
  parsed.format = answer_format(std::move(asked));
  return parsed;
}

}  // namespace baton::serve::responses
