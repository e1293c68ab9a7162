#include "cli/api_answerer.h"

#include <algorithm>
#include <format>
#include <glaze/glaze.hpp>
#include <optional>

#include "cli/signals.h"
#include "cli/text_output.h"
#include "serve/json.h"

namespace baton::cli {

// What of the API's answers is read here.
struct ApiDelta {
  std::optional<std::string> content;
  std::optional<std::string> reasoning_content;
};
struct ApiChoice {
  ApiDelta delta;
  std::optional<std::string> text;
};
struct ApiFailure {
  std::string message;
};
struct ApiEvent {
  std::vector<ApiChoice> choices;
  std::optional<ApiFailure> error;
};
struct ApiModel {
  std::string id;
};
struct ApiModels {
  std::vector<ApiModel> data;
};

namespace {

using serve::json_string;
using serve::JsonObject;

constexpr glz::opts kRead{.error_on_unknown_keys = false, .error_on_missing_keys = false};
constexpr std::string_view kData = "data: ";

std::string message_json(std::string_view role, std::string_view content) {
  return JsonObject().text("role", role).text("content", content).str();
}

std::unexpected<Error> refusal(const serve::HttpClient::Answer& answer, const net::Endpoint& api) {
  ApiEvent event;
  std::string message = std::format("the node answers with status {}", answer.status);
  if (!glz::read<kRead>(event, answer.body) && event.error) message = event.error->message;
  const ErrorCode code = answer.status == 404                           ? ErrorCode::kNotFound
                         : answer.status == 401 || answer.status == 403 ? ErrorCode::kRefused
                         : answer.status == 429 || answer.status == 503 ? ErrorCode::kNoCapacity
                         : answer.status >= 400 && answer.status < 500  ? ErrorCode::kInvalidArgument
                                                                        : ErrorCode::kInternal;
  return fail(code, message, api.to_string());
}

// Puts server-sent events together from the pieces that come, and prints the text in them.
class EventPrinter {
 public:
  void push(std::string_view bytes) {
    pending_ += bytes;
    std::size_t end = 0;
    while ((end = pending_.find("\n\n")) != std::string::npos) {
      const std::string event = pending_.substr(0, end);
      pending_.erase(0, end + 2);
      if (event.starts_with(kData)) take(std::string_view(event).substr(kData.size()));
    }
  }

  const std::string& text() const { return text_; }
  Result<void> result() const {
    TRY(output_);
    if (failure_) return fail(ErrorCode::kInternal, *failure_);
    return {};
  }

 private:
  void take(std::string_view data) {
    if (data == "[DONE]") return;
    ApiEvent event;
    if (glz::read<kRead>(event, data)) {
      failure_ = "the node says what this program does not understand: are they of the same version?";
      return;
    }
    if (event.error) failure_ = event.error->message;
    for (const ApiChoice& choice : event.choices) {
      show(choice.delta.reasoning_content.value_or(""));
      const std::string content = choice.text.value_or(choice.delta.content.value_or(""));
      text_ += content;
      show(content);
    }
  }
  void show(std::string_view piece) {
    if (output_ && !piece.empty()) output_ = print(piece);
  }

  std::string pending_;
  std::string text_;
  std::optional<std::string> failure_;
  Result<void> output_;
};

std::string settings_json(const ApiAnswererOptions& options) {
  const engine::SamplerOptions& sampler = options.sampler;
  JsonObject settings;
  settings.text("model", options.model).flag("stream", true).integer("max_tokens", options.max_new_tokens);
  settings.number("temperature", static_cast<double>(sampler.temperature));
  settings.integer("seed", static_cast<std::int64_t>(sampler.seed));
  settings.integer("top_k", sampler.top_k).number("top_p", static_cast<double>(sampler.top_p));
  settings.number("min_p", static_cast<double>(sampler.min_p));
  settings.number("presence_penalty", static_cast<double>(sampler.presence_penalty));
  settings.number("frequency_penalty", static_cast<double>(sampler.frequency_penalty));
  return settings.str();
}

Result<std::string> variables_json(const std::vector<std::string>& variables) {
  JsonObject object;
  for (const std::string& variable : variables) {
    const std::size_t equals = variable.find('=');
    const bool named = equals != std::string::npos && equals > 0;
    if (!named || !serve::parse_json(variable.substr(equals + 1))) {
      return fail(ErrorCode::kInvalidArgument, std::format("--set takes NAME=JSON, not '{}'", variable));
    }
    object.raw(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return object.str();
}

// `object` with another member.
std::string with_member(const std::string& object, std::string_view name, std::string_view json) {
  return std::format("{},{}:{}}}", object.substr(0, object.size() - 1), json_string(name), json);
}

}  // namespace

ApiAnswerer::ApiAnswerer(ApiAnswererOptions options, std::string settings)
    : options_(std::move(options)), settings_(std::move(settings)), client_(options_.api) {}

Result<std::unique_ptr<ApiAnswerer>> ApiAnswerer::create(ApiAnswererOptions options) {
  serve::HttpClient client(options.api);
  std::string body;
  const auto answer =
      TRY(client.send({.path = "/v1/models", .key = options.key}, [&](std::string_view piece) { body += piece; }));
  if (answer.status != 200) return refusal(answer, options.api);
  ApiModels models;
  if (glz::read<kRead>(models, body) || models.data.empty()) {
    return fail(ErrorCode::kProtocol, "this is no API of a baton node", options.api.to_string());
  }
  if (options.model.empty()) options.model = models.data.front().id;
  if (!std::ranges::contains(models.data, options.model, &ApiModel::id)) {
    std::string known;
    for (const ApiModel& model : models.data) known += std::format("{}'{}'", known.empty() ? "" : ", ", model.id);
    return fail(ErrorCode::kNotFound, std::format("the node has no model '{}'; it has {}", options.model, known),
                options.api.to_string());
  }
  std::string settings = settings_json(options);
  return std::unique_ptr<ApiAnswerer>(new ApiAnswerer(std::move(options), std::move(settings)));
}

Result<std::string> ApiAnswerer::stream(const std::string& path, const std::string& body) {
  const SignalWatch signals([&] { client_.cancel(); });
  EventPrinter printer;
  const auto answer = client_.send({.method = "POST", .path = path, .body = body, .key = options_.key},
                                   [&](std::string_view piece) { printer.push(piece); });
  if (!answer && answer.error().code != ErrorCode::kCancelled) return std::unexpected(answer.error());
  if (answer && answer->status != 200) return refusal(*answer, options_.api);
  TRY(printer.result());
  return printer.text();
}

Result<void> ApiAnswerer::answer(std::string question) {
  std::vector<std::string> messages;
  if (!options_.system.empty()) messages.push_back(message_json("system", options_.system));
  messages.insert(messages.end(), messages_.begin(), messages_.end());
  Message asked = message_json("user", question);
  messages.push_back(asked);
  std::string body = with_member(settings_, "messages", serve::json_array(messages));
  if (!options_.variables.empty()) {
    body = with_member(body, "chat_template_kwargs", TRY(variables_json(options_.variables)));
  }
  const std::string said = TRY(stream("/v1/chat/completions", body));
  messages_.push_back(std::move(asked));
  messages_.push_back(message_json("assistant", said));
  return {};
}

Result<void> ApiAnswerer::complete(const std::string& prompt) {
  TRY(stream("/v1/completions", with_member(settings_, "prompt", prompt)));
  return {};
}

}  // namespace baton::cli
