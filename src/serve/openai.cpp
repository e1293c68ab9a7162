#include "serve/openai.h"

#include <charconv>
#include <format>

#include "serve/chat_tools.h"
#include "serve/openai_format.h"

namespace baton::serve::openai {

namespace {

constexpr std::size_t kMostStops = 16;
constexpr std::int64_t kMostTopLogprobs = 20;
constexpr std::size_t kMostBiases = 1024;

Result<void> parse_stream(Fields& body, ParsedRequest& parsed, FormatOptions& format) {
  const bool stream = TRY(body.flag("stream"))
  .value_or(false);
  parsed.delivery = stream ? Delivery::kStream : Delivery::kWhole;
  const Json* options = body.take("stream_options");
  if (options == nullptr) return {};
  if (!stream) return body.wrong("stream_options", "is only for streams: set 'stream' to true");
  Fields fields = TRY(Fields::of(*options, body.path_of("stream_options")));
  format.include_usage = TRY(fields.flag("include_usage"))
  .value_or(false);
  fields.allow({"include_obfuscation"});
  return fields.refuse_rest();
}

// What does not change an answer here: labels, hints for caches, and the only value that is possible anyway.
void allow_hints(Fields& body) {
  body.allow({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"});
}

Result<void> parse_logit_bias(Fields& body, CanonicalRequest& request, std::size_t vocabulary) {
  const Json* value = body.take("logit_bias");
  if (value == nullptr) return {};
  const std::string path = body.path_of("logit_bias");
  if (!value->is_object()) return body.wrong("logit_bias", "must be an object from token ids to numbers");
  if (value->get_object().size() > kMostBiases) {
    return body.wrong("logit_bias", std::format("may name at most {} tokens", kMostBiases));
  }
  Fields fields = TRY(Fields::of(*value, path));
  for (const auto& [name, bias] : value->get_object()) {
    Token token = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
    if (error != std::errc() || end != name.data() + name.size() || token < 0 ||
        static_cast<std::size_t>(token) >= vocabulary) {
      return body.wrong("logit_bias", std::format("names '{}', which is no token id below {}", name, vocabulary));
    }
    request.sampler.logit_bias[token] = static_cast<float>(TRY(fields.number(name, -100, 100)).value_or(0));
  }
  return {};
}

Result<std::vector<text::ToolCall>> parse_tool_calls(const Json& value, const std::string& path) {
  if (!value.is_array()) return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be an array", path), path);
  std::vector<text::ToolCall> calls;
  for (std::size_t index = 0; index < value.get_array().size(); ++index) {
    Fields call = TRY(Fields::of(value.get_array()[index], std::format("{}[{}]", path, index)));
    text::ToolCall& made = calls.emplace_back();
    made.id = TRY(call.required_text("id"));
    if (TRY(call.text("type")).value_or("function") != "function") return call.wrong("type", "must be 'function'");
    const Json* function = call.take("function");
    if (function == nullptr) return call.wrong("function", "is missing");
    Fields fields = TRY(Fields::of(*function, call.path_of("function")));
    made.name = TRY(fields.required_text("name"));
    made.arguments_json = TRY(fields.required_text("arguments"));
    if (made.arguments_json.empty()) made.arguments_json = "{}";
    TRY(fields.refuse_rest());
    call.allow({"index"});
    TRY(call.refuse_rest());
  }
  return calls;
}

// 'response_format': free text, any object, or what a schema allows.
Result<void> parse_response_format(Fields& body, AnswerForm& form) {
  const Json* value = body.take("response_format");
  if (value == nullptr) return {};
  return parse_text_format(*value, "response_format", Nesting::kInner, form);
}

// 'grammar', as llama.cpp's server has it, or 'structured_outputs.grammar', as vLLM's.
Result<void> parse_grammar(Fields& body, AnswerForm& form) {
  auto grammar = TRY(body.text("grammar"));
  std::string where = "grammar";
  if (const Json* outputs = body.take("structured_outputs")) {
    Fields fields = TRY(Fields::of(*outputs, "structured_outputs"));
    auto inner = TRY(fields.text("grammar"));
    TRY(fields.refuse_rest());
    if (!inner) return fields.wrong("grammar", "is missing");
    if (grammar) return body.wrong("grammar", "cannot be given with 'structured_outputs'");
    grammar = std::move(inner);
    where = fields.path_of("grammar");
  }
  // Clients that have none send an empty one.
  if (!grammar || grammar->empty()) return {};
  if (form.content != ContentForm::kFree) return body.wrong(where, "cannot be given with 'response_format'");
  if (form.tools.any()) return body.wrong(where, "cannot be given with 'tools'");
  form.content = ContentForm::kGrammar;
  form.grammar = *std::move(grammar);
  form.schema_path = std::move(where);
  return {};
}

Result<void> parse_prompts(Fields& body, CanonicalRequest& request, FormatOptions& format, const ServedModel& model) {
  const Json* value = body.take("prompt");
  const auto suffix = TRY(body.text("suffix"));
  if (suffix && !suffix->empty()) {
    if (value == nullptr || !value->is_string()) return body.wrong("suffix", "needs a 'prompt' that is one text");
    request.prompts.push_back(TRY(model.fill_in_prompt(value->get<std::string>(), *suffix)));
    request.further_end_tokens = model.fill_in_ends();
    format.echo.push_back(value->get<std::string>());
    return {};
  }
  if (value == nullptr) return body.wrong("prompt", "is missing");
  const std::size_t vocabulary = model.vocabulary().size();
  const auto wrong = [&] {
    return body.wrong("prompt", "must be a string, an array of strings, or of token ids, or of arrays of those");
  };
  const auto add = [&](const Json& item) -> Result<void> {
    if (item.is_string()) {
      if (item.get<std::string>().empty()) return body.wrong("prompt", "is empty: there is nothing to go on from");
      request.prompts.push_back(TRY(model.text_prompt(item.get<std::string>())));
    } else {
      auto tokens = item.is_array() ? token_list(item.get_array(), vocabulary) : std::nullopt;
      if (!tokens) return wrong();
      request.prompts.push_back(*std::move(tokens));
    }
    format.echo.push_back(item.is_string() ? item.get<std::string>()
                                           : text::detokenize(model.vocabulary(), request.prompts.back()));
    return {};
  };
  if (!value->is_array()) return add(*value);
  const Json::array_t& items = value->get_array();
  if (items.empty()) return body.wrong("prompt", "is empty");
  if (std::holds_alternative<std::int64_t>(items.front().data)) return add(*value);
  if (items.size() > kMostChoices)
    return body.wrong("prompt", std::format("may hold at most {} prompts", kMostChoices));
  for (const Json& item : items) TRY(add(item));
  return {};
}

}  // namespace

std::optional<std::vector<Token>> token_list(const Json::array_t& items, std::size_t vocabulary) {
  std::vector<Token> tokens;
  for (const Json& item : items) {
    const auto* id = std::get_if<std::int64_t>(&item.data);
    if (id == nullptr || *id < 0 || static_cast<std::uint64_t>(*id) >= vocabulary) return std::nullopt;
    tokens.push_back(static_cast<Token>(*id));
  }
  return tokens;
}

Result<std::string> take_model(Fields& body) { return body.required_text("model"); }

Result<void> refuse_storing(Fields& body) {
  if (!TRY(body.flag("store")).value_or(false)) return {};
  return fail(ErrorCode::kUnsupported, "'store' cannot be true: this server stores no answers", "store");
}

Result<void> parse_effort(Fields& fields, std::string_view name, const ServedModel& model, text::ChatRequest& chat) {
  const auto effort = TRY(fields.text(name));
  if (!effort) return {};
  const std::string path = fields.path_of(name);
  if (*effort == "none") return model.thinking().apply(ThinkingWish::kOff, path, chat);
  if (*effort == "minimal") return model.thinking().apply(ThinkingWish::kLow, path, chat);
  const auto wish = effort_named(*effort);
  if (!wish) return fields.wrong(name, std::format("is '{}', but must be none, minimal, low, medium or high", *effort));
  return model.thinking().apply(*wish, path, chat);
}

Result<text::Role> parse_role(const Fields& message, const std::string& name) {
  using text::Role;
  for (const Role role : {Role::kSystem, Role::kDeveloper, Role::kUser, Role::kAssistant, Role::kTool}) {
    if (name == text::role_name(role)) return role;
  }
  return message.wrong("role", std::format("is '{}', but must be system, developer, user, assistant or tool", name));
}

Result<std::vector<text::ContentPart>> parse_parts(const Json::array_t& items, const std::string& path) {
  std::vector<text::ContentPart> parts;
  for (std::size_t index = 0; index < items.size(); ++index) {
    Fields part = TRY(Fields::of(items[index], std::format("{}[{}]", path, index)));
    const std::string type = TRY(part.required_text("type"));
    if (type != "text" && type != "input_text" && type != "output_text") {
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}' is '{}': this server reads only text", part.path_of("type"), type),
                  part.path_of("type"));
    }
    parts.push_back({ .type = "text", .text = TRY(part.required_text("text")) });
    part.allow({"annotations", "logprobs", "cache_control"});
    TRY(part.refuse_rest());
  }
  return parts;
}

Result<text::ChatMessage> parse_message(const Json& value, const std::string& path) {
  Fields fields = TRY(Fields::of(value, path));
  if (TRY(fields.text("type")).value_or("message") != "message") {
    return fail(ErrorCode::kUnsupported, std::format("'{}' can only be 'message'", fields.path_of("type")),
                fields.path_of("type"));
  }
  fields.allow({"id", "status"});
  text::ChatMessage message;
  message.role = TRY(parse_role(fields, TRY(fields.required_text("role"))));
  const bool of_assistant = message.role == text::Role::kAssistant;
  if (const Json* content = fields.take("content")) {
    if (content->is_string()) {
      message.content = content->get<std::string>();
    } else if (content->is_array()) {
      message.content = TRY(parse_parts(content->get_array(), fields.path_of("content")));
    } else {
      return fields.wrong("content", "must be a string or an array of parts");
    }
  }
  message.name = TRY(fields.text("name"));
  if (of_assistant) {
    message.reasoning_content = TRY(fields.text("reasoning_content"));
    if (const Json* calls = fields.take("tool_calls")) {
      message.tool_calls = TRY(parse_tool_calls(*calls, fields.path_of("tool_calls")));
    }
    fields.allow({"refusal", "annotations"});
  }
  if (message.role == text::Role::kTool) message.tool_call_id = TRY(fields.text("tool_call_id"));
  if (std::holds_alternative<std::monostate>(message.content) && message.tool_calls.empty()) {
    return fields.wrong("content", "is missing");
  }
  TRY(fields.refuse_rest());
  return message;
}

Result<std::vector<text::ChatMessage>> parse_messages(Fields& body) {
  const Json* value = body.take("messages");
  if (value == nullptr) return body.wrong("messages", "is missing");
  if (!value->is_array() || value->get_array().empty()) return body.wrong("messages", "must be an array of messages");
  std::vector<text::ChatMessage> messages;
  for (std::size_t index = 0; index < value->get_array().size(); ++index) {
    messages.push_back(TRY(parse_message(value->get_array()[index], std::format("messages[{}]", index))));
  }
  return messages;
}

Result<void> parse_text_format(const Json& value, const std::string& path, Nesting nesting, AnswerForm& form) {
  Fields fields = TRY(Fields::of(value, path));
  const std::string type = TRY(fields.required_text("type"));
  if (type == "text") return fields.refuse_rest();
  if (type == "json_object") {
    form.content = ContentForm::kObject;
    return fields.refuse_rest();
  }
  if (type != "json_schema") {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' '{}' is not supported by this server: text, json_object and json_schema are",
                            fields.path_of("type"), type),
                fields.path_of("type"));
  }
  std::string inner_path = path;
  const Json* inner_value = &value;
  if (nesting == Nesting::kInner) {
    inner_value = fields.take("json_schema");
    if (inner_value == nullptr) return fields.wrong("json_schema", "is missing");
    inner_path = fields.path_of("json_schema");
    TRY(fields.refuse_rest());
  }
  Fields inner = TRY(Fields::of(*inner_value, inner_path));
  const Json* schema = inner.take("schema");
  if (schema == nullptr) return inner.wrong("schema", "is missing");
  form.content = ContentForm::kSchema;
  form.schema = *schema;
  form.schema_path = inner.path_of("schema");
  // Schemas are always held to; names and descriptions change no answer here.
  inner.allow({"type", "name", "description", "strict"});
  return inner.refuse_rest();
}

Result<void> parse_sampling(Fields& body, CanonicalRequest& request, std::size_t vocabulary) {
  engine::SamplerOptions& sampler = request.sampler;
  sampler.temperature = static_cast<float>(TRY(body.number("temperature", 0, 2)).value_or(1));
  sampler.top_p = static_cast<float>(TRY(body.number("top_p", 0, 1)).value_or(1));
  // Not OpenAI's, but of many servers that speak its API.
  sampler.top_k = static_cast<std::uint32_t>(TRY(body.integer("top_k", 0, UINT32_MAX)).value_or(0));
  sampler.min_p = static_cast<float>(TRY(body.number("min_p", 0, 1)).value_or(0));
  sampler.presence_penalty = static_cast<float>(TRY(body.number("presence_penalty", -2, 2)).value_or(0));
  sampler.frequency_penalty = static_cast<float>(TRY(body.number("frequency_penalty", -2, 2)).value_or(0));
  sampler.penalty_window = UINT32_MAX;
  const auto seed = TRY(body.integer("seed", INT64_MIN, INT64_MAX));
  sampler.seed = seed ? static_cast<std::uint64_t>(*seed) : random_seed();
  TRY(parse_logit_bias(body, request, vocabulary));
  request.choices = static_cast<std::uint32_t>(TRY(body.integer("n", 1, kMostChoices)).value_or(1));
  request.stops = TRY(body.texts("stop", kMostStops));
  for (const std::string& stop : request.stops) {
    if (stop.empty()) return body.wrong("stop", "holds an empty string");
  }
  const auto most = TRY(body.integer("max_tokens", 1, UINT32_MAX / 2));
  if (most) request.max_new_tokens = static_cast<std::uint32_t>(*most);
  return {};
}

Result<ParsedRequest> parse_chat(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  ParsedRequest parsed;
  FormatOptions format;
  format.model = TRY(take_model(body));
  TRY(parse_stream(body, parsed, format));
  TRY(parse_sampling(body, parsed.request, model.vocabulary().size()));
  if (const auto most = TRY(body.integer("max_completion_tokens", 1, UINT32_MAX / 2))) {
    parsed.request.max_new_tokens = static_cast<std::uint32_t>(*most);
  }
  format.choices = parsed.request.choices;
  format.logprobs = TRY(body.flag("logprobs"))
  .value_or(false);
  const auto top = TRY(body.integer("top_logprobs", 0, kMostTopLogprobs));
  if (top && !format.logprobs) return body.wrong("top_logprobs", "needs 'logprobs' to be true");
  if (format.logprobs) parsed.request.top_logprobs = static_cast<std::uint32_t>(top.value_or(0));
  AnswerForm form;
  TRY(parse_response_format(body, form));
  form.tools = TRY(parse_tools(body));
  TRY(parse_grammar(body, form));
  text::ChatRequest chat;
  TRY(parse_effort(body, "reasoning_effort", model, chat));
  if (TRY(body.text("service_tier")).value_or("auto") == "priority") {
    return body.wrong("service_tier", "cannot be 'priority': there is one tier");
  }
  if (const Json* variables = body.take("chat_template_kwargs")) {
    if (!variables->is_object()) return body.wrong("chat_template_kwargs", "must be an object");
    for (const auto& [name, value] : variables->get_object()) chat.variables.emplace_back(name, to_json(value));
  }
  chat.messages = TRY(parse_messages(body));
  TRY(refuse_storing(body));
  allow_hints(body);
  TRY(body.refuse_rest());
  TRY(ask(model, std::move(chat), std::move(form), parsed));
  parsed.format = chat_format(std::move(format));
  return parsed;
}

Result<ParsedRequest> parse_completion(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  ParsedRequest parsed;
  FormatOptions format;
  format.model = TRY(take_model(body));
  TRY(parse_stream(body, parsed, format));
  TRY(parse_sampling(body, parsed.request, model.vocabulary().size()));
  // The API's own default, here alone.
  constexpr std::uint32_t kDefaultNewTokens = 16;
  if (!parsed.request.max_new_tokens) parsed.request.max_new_tokens = kDefaultNewTokens;
  format.choices = parsed.request.choices;
  if (const auto top = TRY(body.integer("logprobs", 0, kMostTopLogprobs))) {
    format.logprobs = true;
    parsed.request.top_logprobs = static_cast<std::uint32_t>(*top);
  }
  const auto best_of = TRY(body.integer("best_of", 1, kMostChoices));
  if (best_of && *best_of != parsed.request.choices) {
    return body.wrong("best_of", "may only be the same as 'n': this server does not choose among answers");
  }
  TRY(parse_prompts(body, parsed.request, format, model));
  AnswerForm form;
  TRY(parse_grammar(body, form));
  if (form.content == ContentForm::kGrammar && !TRY(body.text("suffix")).value_or("").empty()) {
    return body.wrong(form.schema_path, "cannot be given with 'suffix'");
  }
  parsed.request.form = TRY(model.form(form, {}));
  if (parsed.request.form) parsed.request.marks = model.marks();
  const bool echo = TRY(body.flag("echo"))
  == true;
  if (echo && format.logprobs) {
    return body.wrong("echo", "may not be asked for with 'logprobs': this server has none of the prompt's tokens");
  }
  if (!echo) format.echo.clear();
  TRY(refuse_storing(body));
  allow_hints(body);
  TRY(body.refuse_rest());
  parsed.format = completion_format(std::move(format));
  return parsed;
}

std::string model_entry(const NamedModel& model) {
  return JsonObject()
      .text("id", model.name)
      .text("object", "model")
      .integer("created", model.model->created())
      .text("owned_by", "baton")
      .str();
}

std::string model_list(std::span<const NamedModel> models) {
  std::vector<std::string> entries;
  for (const NamedModel& model : models) entries.push_back(model_entry(model));
  return JsonObject().text("object", "list").raw("data", json_array(entries)).str();
}

namespace {

// `text_field` is what the text is called that may be too long.
std::string error_about(std::string_view text_field, int status, const Error& error) {
  const bool from_client = status >= 400 && status < 500;
  JsonObject inner;
  inner.text("message", error.message);
  inner.text("type", status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : from_client   ? "invalid_request_error"
                                     : "server_error");
  const bool too_long = error.context == kContextLength;
  if (from_client && !error.context.empty()) {
    inner.text("param", too_long ? text_field : error.context);
  } else {
    inner.null("param");
  }
  // Two codes that clients of this API look for; all others are our own.
  const bool no_model = status == 404 && error.context == "model";
  inner.text("code", too_long ? "context_length_exceeded" : no_model ? "model_not_found" : error_code_name(error.code));
  return JsonObject().raw("error", inner.str()).str();
}

}  // namespace

std::string error_body(int status, const Error& error) { return error_about("messages", status, error); }
std::string completion_error_body(int status, const Error& error) { return error_about("prompt", status, error); }
std::string response_error_body(int status, const Error& error) { return error_about("input", status, error); }

}  // namespace baton::serve::openai
