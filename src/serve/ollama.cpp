#include "serve/ollama.h"

#include <chrono>
#include <format>

#include "serve/chat_tools.h"
#include "serve/openai.h"

namespace baton::serve::ollama {

namespace {

constexpr std::size_t kMostStops = 16;

std::int64_t nanoseconds(double duration_s) { return static_cast<std::int64_t>(duration_s * 1e9); }

enum class Kind { kChat, kGenerate };

class Format : public AnswerFormat {
 public:
  Format(Kind kind, std::string model) : kind_(kind), model_(std::move(model)) {}

  std::string whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    JsonObject object = with({.text = choice.text, .reasoning = choice.reasoning, .calls = choice.calls});
    add_end(object, choice.end);
    return object.str();
  }
  std::string_view stream_type() const override { return "application/x-ndjson"; }
  std::string piece(std::size_t, const Piece& piece) override { return with(piece).flag("done", false).str() + "\n"; }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    JsonObject object = with({});
    add_end(object, end);
    return object.str() + "\n";
  }
  std::string end(std::span<const Choice>) override { return {}; }
  std::string error(const Error& error) override { return error_body(500, error) + "\n"; }

 private:
  JsonObject with(const Piece& piece) const {
    JsonObject object;
    object.text("model", model_).text("created_at", time_text(std::chrono::system_clock::now()));
    if (kind_ == Kind::kGenerate) {
      object.text("response", piece.text);
      if (!piece.reasoning.empty()) object.text("thinking", piece.reasoning);
      return object;
    }
    JsonObject message;
    message.text("role", "assistant").text("content", piece.text);
    if (!piece.reasoning.empty()) message.text("thinking", piece.reasoning);
    if (!piece.calls.empty()) {
      std::vector<std::string> calls;
      for (const FunctionCall& call : piece.calls) {
        const std::string function = JsonObject().text("name", call.name).raw("arguments", call.arguments).str();
        calls.push_back(JsonObject().raw("function", function).str());
      }
      message.raw("tool_calls", json_array(calls));
    }
    return object.raw("message", message.str());
  }
  static void add_end(JsonObject& object, const AnswerEnd& end) {
    object.text("done_reason", end.reason == EndReason::kLength ? "length" : "stop").flag("done", true);
    object.integer("total_duration", nanoseconds(end.queue_s + end.prefill_s + end.decode_s));
    object.integer("load_duration", 0);
    object.integer("prompt_eval_count", end.prompt_tokens);
    object.integer("prompt_eval_duration", nanoseconds(end.prefill_s));
    object.integer("eval_count", end.new_tokens);
    object.integer("eval_duration", nanoseconds(end.decode_s));
  }

  const Kind kind_;
  const std::string model_;
};

Result<void> parse_options(Fields& body, CanonicalRequest& request) {
  engine::SamplerOptions& sampler = request.sampler;
  request.penalised = Penalised::kPromptAndAnswer;
  // Ollama's own defaults.
  sampler.temperature = 0.8F;
  sampler.top_k = 40;
  sampler.top_p = 0.9F;
  sampler.repeat_penalty = 1.1F;
  sampler.seed = random_seed();
  const Json* value = body.take("options");
  if (value == nullptr) return {};
  Fields options = TRY(Fields::of(*value, "options"));
  const auto set = [&](std::string_view name, float& target, double least, double most) -> Result<void> {
    if (const auto given = TRY(options.number(name, least, most))) target = static_cast<float>(*given);
    return {};
  };
  TRY(set("temperature", sampler.temperature, 0, 100));
  TRY(set("top_p", sampler.top_p, 0, 1));
  TRY(set("min_p", sampler.min_p, 0, 1));
  TRY(set("repeat_penalty", sampler.repeat_penalty, 0.001, 1000));
  TRY(set("presence_penalty", sampler.presence_penalty, -1000, 1000));
  TRY(set("frequency_penalty", sampler.frequency_penalty, -1000, 1000));
  sampler.top_k = static_cast<std::uint32_t>(TRY(options.integer("top_k", 0, UINT32_MAX)).value_or(sampler.top_k));
  // -1: the whole context.
  if (const auto last = TRY(options.integer("repeat_last_n", -1, UINT32_MAX))) {
    sampler.penalty_window = *last < 0 ? UINT32_MAX : static_cast<std::uint32_t>(*last);
  }
  if (const auto seed = TRY(options.integer("seed", INT64_MIN, INT64_MAX))) {
    sampler.seed = static_cast<std::uint64_t>(*seed);
  }
  // -1 and -2: as long as it likes.
  if (const auto most = TRY(options.integer("num_predict", -2, UINT32_MAX / 2)); most && *most > 0) {
    request.max_new_tokens = static_cast<std::uint32_t>(*most);
  }
  request.stops = TRY(options.texts("stop", kMostStops));
  std::erase(request.stops, "");
  // How the server is set up is its owner's business; these change no answer.
  options.allow({"num_ctx", "num_batch", "num_gpu", "num_thread", "main_gpu", "low_vram", "use_mmap", "use_mlock",
                 "numa", "num_keep"});
  return options.refuse_rest();
}

// "json", or a schema.
Result<void> parse_format(Fields& body, AnswerForm& form) {
  const Json* format = body.take("format");
  if (format == nullptr || (format->is_string() && format->get<std::string>().empty())) return {};
  if (format->is_string() && format->get<std::string>() == "json") {
    form.content = ContentForm::kObject;
  } else if (format->is_object()) {
    form.content = ContentForm::kSchema;
    form.schema = *format;
    form.schema_path = "format";
  } else {
    return body.wrong("format", "must be 'json' or a JSON schema");
  }
  return {};
}

// True, false, or how much.
Result<void> parse_think(Fields& body, const ServedModel& model, text::ChatRequest& chat) {
  const Json* think = body.take("think");
  if (think == nullptr) return {};
  if (think->is_boolean()) {
    return model.thinking().apply(think->get<bool>() ? ThinkingWish::kOn : ThinkingWish::kOff, "think", chat);
  }
  if (!think->is_string()) return body.wrong("think", "must be true, false, low, medium or high");
  const auto effort = effort_named(think->get<std::string>());
  if (!effort) {
    return body.wrong("think",
                      std::format("is '{}', but must be true, false, low, medium or high", think->get<std::string>()));
  }
  return model.thinking().apply(*effort, "think", chat);
}

// Calls have no ids here; templates that want some get them in the order of the conversation.
std::string call_id(std::size_t number) { return std::format("call{:05}", number); }

Result<void> parse_calls(const Json& value, const std::string& path, text::ChatMessage& message, std::size_t& calls) {
  if (!value.is_array()) return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be an array", path), path);
  for (std::size_t index = 0; index < value.get_array().size(); ++index) {
    Fields fields = TRY(Fields::of(value.get_array()[index], std::format("{}[{}]", path, index)));
    const Json* function = fields.take("function");
    if (function == nullptr) return fields.wrong("function", "is missing");
    fields.allow({"id", "type"});
    TRY(fields.refuse_rest());
    Fields inner = TRY(Fields::of(*function, fields.path_of("function")));
    text::ToolCall& call = message.tool_calls.emplace_back();
    call.id = call_id(calls++);
    call.name = TRY(inner.required_text("name"));
    const Json* arguments = inner.take("arguments");
    if (arguments != nullptr && !arguments->is_object()) return inner.wrong("arguments", "must be an object");
    call.arguments_json = arguments == nullptr ? "{}" : to_json(*arguments);
    inner.allow({"index", "description"});
    TRY(inner.refuse_rest());
  }
  return {};
}

Result<std::vector<text::ChatMessage>> parse_messages(Fields& body) {
  const Json* value = body.take("messages");
  if (value == nullptr || !value->is_array() || value->get_array().empty()) {
    return body.wrong("messages", "must be an array of messages");
  }
  std::vector<text::ChatMessage> messages;
  std::size_t calls = 0;
  std::size_t answered = 0;
  for (std::size_t index = 0; index < value->get_array().size(); ++index) {
    Fields fields = TRY(Fields::of(value->get_array()[index], std::format("messages[{}]", index)));
    text::ChatMessage& message = messages.emplace_back();
    message.role = TRY(openai::parse_role(fields, TRY(fields.required_text("role"))));
    message.content = TRY(fields.text("content"))
    .value_or("");
    if (message.role == text::Role::kAssistant) {
      message.reasoning_content = TRY(fields.text("thinking"));
      if (const Json* list = fields.take("tool_calls")) {
        TRY(parse_calls(*list, fields.path_of("tool_calls"), message, calls));
      }
    }
    if (message.role == text::Role::kTool) {
      auto name = TRY(fields.text("tool_name"));
      message.name = name ? std::move(name) : TRY(fields.text("name"));
      message.tool_call_id = call_id(answered++);
      fields.allow({"tool_call_id"});
    }
    const Json* images = fields.take("images");
    if (images != nullptr && !(images->is_array() && images->get_array().empty())) {
      return fail(ErrorCode::kUnsupported, std::format("'{}': this server reads only text", fields.path_of("images")),
                  fields.path_of("images"));
    }
    TRY(fields.refuse_rest());
  }
  return messages;
}

Result<ParsedRequest> parse_common(Fields& body, Kind kind, const std::string& called) {
  ParsedRequest parsed;
  parsed.delivery = TRY(body.flag("stream"))
  .value_or(true) ? Delivery::kStream : Delivery::kWhole;
  TRY(parse_options(body, parsed.request));
  parsed.request.keep_alive = TRY(parse_keep_alive(body));
  parsed.format = std::make_unique<Format>(kind, called);
  return parsed;
}

// Whether there is no text to make.
bool asks_nothing(const Json* asked) {
  if (asked == nullptr) return true;
  return (asked->is_string() && asked->get<std::string>().empty()) || (asked->is_array() && asked->get_array().empty());
}

Result<ParsedRequest> wish_to_load(Fields& body, Kind kind, const std::string& called, ParsedRequest parsed) {
  body.allow({"format", "system", "template", "raw", "suffix", "think", "tools"});
  TRY(body.refuse_rest());
  const std::optional<Duration> keep_alive = parsed.request.keep_alive;
  JsonObject object;
  object.text("model", called).text("created_at", time_text(std::chrono::system_clock::now()));
  if (kind == Kind::kChat) {
    object.raw("message", R"({"role":"assistant","content":""})");
  } else {
    object.text("response", "");
  }
  object.text("done_reason", keep_alive == Duration::zero() ? "unload" : "load").flag("done", true);
  parsed.load = LoadWish{.keep_alive = keep_alive, .answer = object.str()};
  return parsed;
}

}  // namespace

Result<ParsedRequest> parse_chat(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  const std::string called = TRY(take_model(body));
  ParsedRequest parsed = TRY(parse_common(body, Kind::kChat, called));
  if (asks_nothing(body.take("messages"))) return wish_to_load(body, Kind::kChat, called, std::move(parsed));
  text::ChatRequest chat;
  chat.messages = TRY(parse_messages(body));
  AnswerForm form;
  TRY(parse_format(body, form));
  TRY(parse_think(body, model, chat));
  if (const Json* tools = body.take("tools")) form.tools.tools = TRY(parse_tool_list(*tools, "tools"));
  TRY(body.refuse_rest());
  TRY(ask(model, std::move(chat), std::move(form), parsed));
  return parsed;
}

Result<ParsedRequest> parse_generate(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  const std::string called = TRY(take_model(body));
  ParsedRequest parsed = TRY(parse_common(body, Kind::kGenerate, called));
  if (asks_nothing(body.take("prompt"))) return wish_to_load(body, Kind::kGenerate, called, std::move(parsed));
  const std::string prompt = TRY(body.required_text("prompt"));
  const auto system = TRY(body.text("system"));
  const bool raw = TRY(body.flag("raw"))
  .value_or(false);
  const std::string suffix = TRY(body.text("suffix"))
  .value_or("");
  text::ChatRequest chat;
  AnswerForm form;
  TRY(parse_format(body, form));
  TRY(parse_think(body, model, chat));
  TRY(body.refuse_rest());
  if (!suffix.empty()) {
    if (form.content != ContentForm::kFree) return body.wrong("format", "cannot be asked for with 'suffix'");
    if (system && !system->empty()) return body.wrong("system", "cannot be given with 'suffix'");
    parsed.request.prompts.push_back(TRY(model.fill_in_prompt(prompt, suffix)));
    parsed.request.further_end_tokens = model.fill_in_ends();
    return parsed;
  }
  if (raw || !model.can_chat()) {
    parsed.request.prompts.push_back(TRY(model.text_prompt(system.value_or("") + prompt)));
    parsed.request.form = TRY(model.form(form, {}));
    if (parsed.request.form) parsed.request.marks = model.marks();
    return parsed;
  }
  if (system && !system->empty()) chat.messages.push_back({.role = text::Role::kSystem, .content = *system});
  chat.messages.push_back({.role = text::Role::kUser, .content = prompt});
  TRY(ask(model, std::move(chat), std::move(form), parsed));
  return parsed;
}

std::string error_body(int, const Error& error) { return JsonObject().text("error", error.message).str(); }

}  // namespace baton::serve::ollama
