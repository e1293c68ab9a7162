#include "serve/ollama.h"

#include <chrono>
#include <filesystem>
#include <format>

#include "serve/openai.h"

namespace baton::serve::ollama {

namespace {

constexpr std::size_t kMostStops = 16;

std::string time_text(std::chrono::system_clock::time_point time) {
  return std::format("{:%FT%TZ}", std::chrono::floor<std::chrono::microseconds>(time));
}

std::int64_t nanoseconds(double duration_s) { return static_cast<std::int64_t>(duration_s * 1e9); }

enum class Kind { kChat, kGenerate };

class Format : public AnswerFormat {
 public:
  Format(Kind kind, std::string model) : kind_(kind), model_(std::move(model)) {}

  std::string whole(std::span<const Choice> choices) override {
    JsonObject object = with_text(choices.front().text);
    add_end(object, choices.front().end);
    return object.str();
  }
  std::string_view stream_type() const override { return "application/x-ndjson"; }
  std::string piece(std::size_t, const Piece& piece) override {
    return with_text(piece.text).flag("done", false).str() + "\n";
  }
  std::string end_of_choice(std::size_t, const AnswerEnd& end) override {
    JsonObject object = with_text("");
    add_end(object, end);
    return object.str() + "\n";
  }
  std::string end(std::span<const Choice>) override { return {}; }
  std::string error(const Error& error) override { return error_body(500, error) + "\n"; }

 private:
  JsonObject with_text(std::string_view text) const {
    JsonObject object;
    object.text("model", model_).text("created_at", time_text(std::chrono::system_clock::now()));
    if (kind_ == Kind::kGenerate) return object.text("response", text);
    return object.raw("message", JsonObject().text("role", "assistant").text("content", text).str());
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

// "name" and "name:latest" are the same to Ollama's clients.
Result<void> check_model(Fields& body, const ServedModel& model) {
  const std::string wanted = TRY(body.required_text("model"));
  if (wanted == model.id() || wanted == model.id() + ":latest") return {};
  return fail(ErrorCode::kNotFound, std::format("model '{}' not found; this server has '{}'", wanted, model.id()),
              "model");
}

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

Result<ParsedRequest> parse_common(Fields& body, Kind kind, const ServedModel& model) {
  TRY(check_model(body, model));
  ParsedRequest parsed;
  parsed.delivery = TRY(body.flag("stream"))
  .value_or(true) ? Delivery::kStream : Delivery::kWhole;
  TRY(parse_options(body, parsed.request));
  const Json* format = body.take("format");
  if (format != nullptr && !(format->is_string() && format->get<std::string>().empty())) {
    return fail(ErrorCode::kUnsupported, "'format' is not supported by this server", "format");
  }
  if (TRY(body.flag("think")).value_or(false)) {
    return fail(ErrorCode::kUnsupported, "'think' is not supported by this server", "think");
  }
  body.allow({"keep_alive"});
  parsed.format = std::make_unique<Format>(kind, model.id());
  return parsed;
}

std::string details(const ServedModel& model) {
  const std::string family(model.model().description().architecture);
  return JsonObject()
      .text("parent_model", "")
      .text("format", "gguf")
      .text("family", family)
      .raw("families", std::format("[{}]", json_string(family)))
      .text("parameter_size", "")
      .text("quantization_level", "")
      .str();
}

}  // namespace

Result<ParsedRequest> parse_chat(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  ParsedRequest parsed = TRY(parse_common(body, Kind::kChat, model));
  text::ChatRequest chat;
  chat.messages = TRY(openai::parse_messages(body.take("messages"), body));
  if (const Json* tools = body.take("tools"); tools != nullptr && !(tools->is_array() && tools->get_array().empty())) {
    return fail(ErrorCode::kUnsupported, "'tools' is not supported by this server", "tools");
  }
  TRY(body.refuse_rest());
  parsed.request.prompts.push_back(TRY(model.chat_prompt(std::move(chat))));
  return parsed;
}

Result<ParsedRequest> parse_generate(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  ParsedRequest parsed = TRY(parse_common(body, Kind::kGenerate, model));
  const std::string prompt = TRY(body.required_text("prompt"));
  const auto system = TRY(body.text("system"));
  const bool raw = TRY(body.flag("raw"))
  .value_or(false);
  if (!TRY(body.text("suffix")).value_or("").empty()) {
    return fail(ErrorCode::kUnsupported, "'suffix' is not supported by this server", "suffix");
  }
  TRY(body.refuse_rest());
  if (raw || !model.can_chat()) {
    parsed.request.prompts.push_back(TRY(model.text_prompt(system.value_or("") + prompt)));
    return parsed;
  }
  text::ChatRequest chat;
  if (system && !system->empty()) chat.messages.push_back({.role = text::Role::kSystem, .content = *system});
  chat.messages.push_back({.role = text::Role::kUser, .content = prompt});
  parsed.request.prompts.push_back(TRY(model.chat_prompt(std::move(chat))));
  return parsed;
}

std::string model_list(const ServedModel& model) {
  std::error_code error;
  const auto size = std::filesystem::file_size(model.model().path(), error);
  const std::string entry =
      JsonObject()
          .text("name", model.id())
          .text("model", model.id())
          .text("modified_at", time_text(std::chrono::system_clock::time_point(std::chrono::seconds(model.created()))))
          .integer("size", error ? 0 : static_cast<std::int64_t>(size))
          .text("digest", "")
          .raw("details", details(model))
          .str();
  return JsonObject().raw("models", std::format("[{}]", entry)).str();
}

Result<std::string> show(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(check_model(body, model));
  body.allow({"verbose", "name"});
  TRY(body.refuse_rest());
  const std::string info = JsonObject()
                               .text("general.architecture", model.model().description().architecture)
                               .integer("context_length", model.model().shape().trained_context_tokens)
                               .integer("block_count", model.model().shape().layer_count)
                               .integer("embedding_length", model.model().shape().embedding_width)
                               .str();
  return JsonObject()
      .text("modelfile", "")
      .text("parameters", "")
      .text("template", model.template_source())
      .raw("details", details(model))
      .raw("model_info", info)
      .raw("capabilities", R"(["completion"])")
      .str();
}

std::string error_body(int, const Error& error) { return JsonObject().text("error", error.message).str(); }

}  // namespace baton::serve::ollama
