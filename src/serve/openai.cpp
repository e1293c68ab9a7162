#include "serve/openai.h"

#include <charconv>
#include <format>

namespace baton::serve::openai {

namespace {

constexpr std::size_t kMostStops = 16;
constexpr std::int64_t kMostTopLogprobs = 20;
constexpr std::size_t kMostBiases = 1024;

std::string_view finish_reason(EndReason reason) { return reason == EndReason::kLength ? "length" : "stop"; }

std::string bytes_array(std::string_view bytes) {
  std::vector<std::string> items;
  for (const char byte : bytes) items.push_back(std::to_string(static_cast<unsigned char>(byte)));
  return json_array(items);
}

JsonObject scored(const ScoredToken& token) {
  JsonObject object;
  object.text("token", token.bytes).number("logprob", static_cast<double>(token.logprob));
  object.raw("bytes", bytes_array(token.bytes));
  return object;
}

std::string chat_logprobs(std::span<const Piece::Score> scores) {
  std::vector<std::string> content;
  for (const Piece::Score& score : scores) {
    std::vector<std::string> top;
    for (const ScoredToken& token : score.top) top.push_back(scored(token).str());
    content.push_back(scored(score.chosen).raw("top_logprobs", json_array(top)).str());
  }
  return JsonObject().raw("content", json_array(content)).null("refusal").str();
}

std::string usage_json(const Usage& usage) {
  return JsonObject()
      .integer("prompt_tokens", usage.prompt_tokens)
      .integer("completion_tokens", usage.new_tokens)
      .integer("total_tokens", std::int64_t{usage.prompt_tokens} + usage.new_tokens)
      .raw("prompt_tokens_details", JsonObject().integer("cached_tokens", usage.cached_tokens).str())
      .str();
}

struct FormatOptions {
  std::string model;
  std::uint32_t choices = 1;
  bool logprobs = false;
  bool include_usage = false;
  std::vector<std::string> echo;  // of each prompt, what the text begins with
};

// What chat and completions share: ids, usage, the end of the stream.
class Format : public AnswerFormat {
 public:
  Format(std::string_view id_prefix, FormatOptions options)
      : options_(std::move(options)), id_(new_id(id_prefix)), created_(unix_time()) {}

  std::string end(std::span<const Choice> choices) override {
    std::string text;
    if (options_.include_usage) {
      text = server_sent_event(
          chunk().raw("choices", "[]").raw("usage", usage_json(usage_of(choices, options_.choices))).str());
    }
    return text + server_sent_event("[DONE]");
  }
  std::string error(const Error& error) override { return server_sent_event(error_body(500, error)); }

 protected:
  virtual std::string_view chunk_object() const = 0;

  JsonObject head(std::string_view object) const {
    JsonObject made;
    made.text("id", id_).text("object", object).integer("created", created_).text("model", options_.model);
    return made;
  }
  JsonObject chunk() const { return head(chunk_object()); }
  std::string event(std::string_view choice) const {
    JsonObject made = chunk();
    made.raw("choices", std::format("[{}]", choice));
    if (options_.include_usage) made.null("usage");
    return server_sent_event(made.str());
  }
  const FormatOptions& options() const { return options_; }

 private:
  const FormatOptions options_;
  const std::string id_;
  const std::int64_t created_;
};

class ChatFormat : public Format {
 public:
  explicit ChatFormat(FormatOptions options) : Format("chatcmpl", std::move(options)) {}

  std::string whole(std::span<const Choice> choices) override {
    std::vector<std::string> items;
    for (std::size_t index = 0; index < choices.size(); ++index) {
      const Choice& choice = choices[index];
      JsonObject message;
      message.text("role", "assistant").text("content", choice.text).null("refusal");
      JsonObject item;
      item.integer("index", static_cast<std::int64_t>(index)).raw("message", message.str());
      add_logprobs(item, choice.scores);
      item.text("finish_reason", finish_reason(choice.end.reason));
      items.push_back(item.str());
    }
    return head("chat.completion")
        .raw("choices", json_array(items))
        .raw("usage", usage_json(usage_of(choices, options().choices)))
        .str();
  }
  std::string begin() override {
    std::string text;
    for (std::uint32_t index = 0; index < options().choices; ++index) {
      const std::string delta = JsonObject().text("role", "assistant").text("content", "").str();
      text += event(delta_choice(index, delta, {}).null("finish_reason").str());
    }
    return text;
  }
  std::string piece(std::size_t choice, const Piece& piece) override {
    const std::string delta = JsonObject().text("content", piece.text).str();
    return event(delta_choice(choice, delta, piece.scores).null("finish_reason").str());
  }
  std::string end_of_choice(std::size_t choice, const AnswerEnd& end) override {
    return event(delta_choice(choice, "{}", {}).text("finish_reason", finish_reason(end.reason)).str());
  }

 protected:
  std::string_view chunk_object() const override { return "chat.completion.chunk"; }

 private:
  void add_logprobs(JsonObject& item, std::span<const Piece::Score> scores) const {
    if (options().logprobs) {
      item.raw("logprobs", chat_logprobs(scores));
    } else {
      item.null("logprobs");
    }
  }
  JsonObject delta_choice(std::size_t index, std::string_view delta, std::span<const Piece::Score> scores) const {
    JsonObject item;
    item.integer("index", static_cast<std::int64_t>(index)).raw("delta", delta);
    if (scores.empty()) return item.null("logprobs");
    add_logprobs(item, scores);
    return item;
  }
};

class CompletionFormat : public Format {
 public:
  explicit CompletionFormat(FormatOptions options) : Format("cmpl", std::move(options)) {}

  std::string whole(std::span<const Choice> choices) override {
    std::vector<std::string> items;
    for (std::size_t index = 0; index < choices.size(); ++index) {
      const Choice& choice = choices[index];
      const std::string echo = echo_of(index);
      items.push_back(item(index, echo + choice.text, choice.scores, echo.size())
                          .text("finish_reason", finish_reason(choice.end.reason))
                          .str());
    }
    return head("text_completion")
        .raw("choices", json_array(items))
        .raw("usage", usage_json(usage_of(choices, options().choices)))
        .str();
  }
  std::string piece(std::size_t choice, const Piece& piece) override {
    if (offsets_.size() <= choice) offsets_.resize(choice + 1);
    const std::string echo = offsets_[choice] == 0 ? echo_of(choice) : std::string();
    const std::size_t offset = offsets_[choice] + echo.size();
    offsets_[choice] = offset + piece.text.size();
    return event(item(choice, echo + piece.text, piece.scores, offset).null("finish_reason").str());
  }
  std::string end_of_choice(std::size_t choice, const AnswerEnd& end) override {
    return event(item(choice, "", {}, 0).text("finish_reason", finish_reason(end.reason)).str());
  }

 protected:
  std::string_view chunk_object() const override { return "text_completion"; }

 private:
  std::string echo_of(std::size_t choice) const {
    const std::size_t prompt = choice / options().choices;
    return prompt < options().echo.size() ? options().echo[prompt] : std::string();
  }
  JsonObject item(std::size_t index, std::string_view text, std::span<const Piece::Score> scores,
                  std::size_t offset) const {
    JsonObject made;
    made.text("text", text).integer("index", static_cast<std::int64_t>(index));
    if (!options().logprobs || scores.empty()) return made.null("logprobs");
    std::vector<std::string> tokens;
    std::vector<std::string> logprobs;
    std::vector<std::string> tops;
    std::vector<std::string> offsets;
    for (const Piece::Score& score : scores) {
      tokens.push_back(json_string(score.chosen.bytes));
      logprobs.push_back(json_number(static_cast<double>(score.chosen.logprob)));
      JsonObject top;
      for (const ScoredToken& token : score.top) top.number(token.bytes, static_cast<double>(token.logprob));
      tops.push_back(top.str());
      offsets.push_back(std::to_string(offset));
      offset += score.chosen.bytes.size();
    }
    return made.raw("logprobs", JsonObject()
                                    .raw("tokens", json_array(tokens))
                                    .raw("token_logprobs", json_array(logprobs))
                                    .raw("top_logprobs", json_array(tops))
                                    .raw("text_offset", json_array(offsets))
                                    .str());
  }

  std::vector<std::size_t> offsets_;
};

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

Result<text::Role> parse_role(const Fields& message, const std::string& name) {
  using text::Role;
  for (const Role role : {Role::kSystem, Role::kDeveloper, Role::kUser, Role::kAssistant, Role::kTool}) {
    if (name == text::role_name(role)) return role;
  }
  return message.wrong("role", std::format("is '{}', but must be system, developer, user, assistant or tool", name));
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

// Token ids, or nothing where the array holds something else.
std::optional<std::vector<Token>> token_list(const Json::array_t& items, std::size_t vocabulary) {
  std::vector<Token> tokens;
  for (const Json& item : items) {
    const auto* id = std::get_if<std::int64_t>(&item.data);
    if (id == nullptr || *id < 0 || static_cast<std::uint64_t>(*id) >= vocabulary) return std::nullopt;
    tokens.push_back(static_cast<Token>(*id));
  }
  return tokens;
}

Result<void> parse_prompts(Fields& body, CanonicalRequest& request, FormatOptions& format, const ServedModel& model) {
  const Json* value = body.take("prompt");
  if (value == nullptr) return body.wrong("prompt", "is missing");
  const std::size_t vocabulary = model.vocabulary().size();
  const auto wrong = [&] {
    return body.wrong("prompt", "must be a string, an array of strings, or of token ids, or of arrays of those");
  };
  const auto add = [&](const Json& item) -> Result<void> {
    if (item.is_string()) {
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

Result<void> check_model(Fields& body, const ServedModel& model) {
  const std::string wanted = TRY(body.required_text("model"));
  if (wanted == model.id()) return {};
  return fail(ErrorCode::kNotFound,
              std::format("the model '{}' is not served here; this server has '{}'", wanted, model.id()), "model");
}

Result<void> refuse_storing(Fields& body) {
  if (!TRY(body.flag("store")).value_or(false)) return {};
  return fail(ErrorCode::kUnsupported, "'store' cannot be true: this server stores no answers", "store");
}

Result<std::vector<text::ChatMessage>> parse_messages(const Json* value, const Fields& body, std::string_view name) {
  if (value == nullptr) return body.wrong(name, "is missing");
  if (!value->is_array() || value->get_array().empty()) return body.wrong(name, "must be an array of messages");
  std::vector<text::ChatMessage> messages;
  for (std::size_t index = 0; index < value->get_array().size(); ++index) {
    Fields fields = TRY(Fields::of(value->get_array()[index], std::format("{}[{}]", name, index)));
    if (TRY(fields.text("type")).value_or("message") != "message") {
      return fail(ErrorCode::kUnsupported, std::format("'{}' can only be 'message'", fields.path_of("type")),
                  fields.path_of("type"));
    }
    fields.allow({"id", "status"});
    text::ChatMessage& message = messages.emplace_back();
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
  }
  return messages;
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
  TRY(check_model(body, model));
  format.model = model.id();
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
  if (const Json* kind = body.take("response_format")) {
    Fields fields = TRY(Fields::of(*kind, "response_format"));
    const std::string type = TRY(fields.required_text("type"));
    if (type != "text") {
      return fail(ErrorCode::kUnsupported,
                  std::format("'response_format.type' '{}' is not supported by this server", type),
                  "response_format.type");
    }
  }
  if (TRY(body.text("service_tier")).value_or("auto") == "priority") {
    return body.wrong("service_tier", "cannot be 'priority': there is one tier");
  }
  text::ChatRequest chat;
  if (const Json* variables = body.take("chat_template_kwargs")) {
    if (!variables->is_object()) return body.wrong("chat_template_kwargs", "must be an object");
    for (const auto& [name, value] : variables->get_object()) chat.variables.emplace_back(name, to_json(value));
  }
  chat.messages = TRY(parse_messages(body.take("messages"), body));
  TRY(refuse_storing(body));
  allow_hints(body);
  TRY(body.refuse_rest());
  parsed.request.prompts.push_back(TRY(model.chat_prompt(std::move(chat))));
  parsed.format = std::make_unique<ChatFormat>(std::move(format));
  return parsed;
}

Result<ParsedRequest> parse_completion(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  ParsedRequest parsed;
  FormatOptions format;
  TRY(check_model(body, model));
  format.model = model.id();
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
  if (!TRY(body.flag("echo")).value_or(false)) format.echo.clear();
  TRY(refuse_storing(body));
  allow_hints(body);
  TRY(body.refuse_rest());
  parsed.format = std::make_unique<CompletionFormat>(std::move(format));
  return parsed;
}

std::string model_entry(const ServedModel& model) {
  return JsonObject()
      .text("id", model.id())
      .text("object", "model")
      .integer("created", model.created())
      .text("owned_by", "baton")
      .str();
}

std::string model_list(const ServedModel& model) {
  return JsonObject().text("object", "list").raw("data", std::format("[{}]", model_entry(model))).str();
}

std::string error_body(int status, const Error& error) {
  const bool from_client = status >= 400 && status < 500;
  JsonObject inner;
  inner.text("message", error.message);
  inner.text("type", status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : from_client   ? "invalid_request_error"
                                     : "server_error");
  if (from_client && !error.context.empty()) {
    inner.text("param", error.context);
  } else {
    inner.null("param");
  }
  inner.text("code", error_code_name(error.code));
  return JsonObject().raw("error", inner.str()).str();
}

std::string error_body(int status, std::string_view message) {
  Error error{ErrorCode::kInvalidArgument, std::string(message), {}};
  if (status == 401 || status == 403) error.code = ErrorCode::kRefused;
  if (status == 404) error.code = ErrorCode::kNotFound;
  if (status == 408) error.code = ErrorCode::kTimeout;
  if (status == 429 || status == 503) error.code = ErrorCode::kNoCapacity;
  return error_body(status, error);
}

}  // namespace baton::serve::openai
