#include "text/chat_template.h"

#include <array>
#include <format>
#include <nlohmann/json.hpp>

#include "text/control_shield.h"
#include "text/template_process.h"

namespace baton::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxSourceBytes = 1UL << 20;
constexpr std::size_t kMaxInputBytes = 16UL << 20;
constexpr std::size_t kMaxTextBytes = 4UL << 20;  // and so many times the input
constexpr std::size_t kMaxGrowth = 8;

// Thrown out of the reader, deep within a JSON value.
struct Refused {
  std::string message;
};

// A request as the template sees it, with what it must not spell hidden.
class RequestReader {
 public:
  explicit RequestReader(ControlShield& shield) : shield_(shield) {}

  // The template's variables.
  Json read_variables(const ChatRequest& request) {
    Json variables = Json::object();
    for (const auto& [name, json] : request.variables) {
      variables[name] = read_json(json, std::format("the template variable '{}'", name));
    }
    variables["messages"] = read_messages(request.messages);
    variables["tools"] = read_values(request.tools_json, "tool");
    variables["documents"] = read_values(request.documents_json, "document");
    variables["add_generation_prompt"] = request.generation_prompt == GenerationPrompt::kAdd;
    variables["bos_token"] = request.bos_token;
    variables["eos_token"] = request.eos_token;
    return variables;
  }
  std::size_t input_bytes() const { return input_bytes_; }

 private:
  Json read_messages(const std::vector<ChatMessage>& messages) {
    Json list = Json::array();
    for (std::size_t i = 0; i < messages.size(); ++i) list.push_back(read_message(messages[i], i));
    return list;
  }
  // None where there are none, as templates ask "if tools".
  Json read_values(const std::vector<std::string>& values, std::string_view what) {
    Json list;
    for (std::size_t i = 0; i < values.size(); ++i) list.push_back(read_json(values[i], std::format("{} {}", what, i)));
    return list;
  }
  Json read_json(std::string_view text, std::string_view what) {
    try {
      // Two levels of brackets for each of a schema, and no more than the stack bears.
      const Json value = Json::parse(text, [](int depth, Json::parse_event_t, Json&) {
        if (depth > 100) throw Refused{"is nested too deeply"};
        return true;
      });
      return hide_json(value);
    } catch (const nlohmann::json::exception& error) {
      throw Refused{std::format("{} is not JSON: {}", what, error.what())};
    } catch (const Refused& refused) {
      throw Refused{std::format("{} {}", what, refused.message)};
    }
  }

  std::string hide_text(std::string_view text) {
    input_bytes_ += text.size();
    if (input_bytes_ > kMaxInputBytes) throw Refused{"the conversation is too long"};
    return shield_.hide(text);
  }
  Json hide_json(const Json& value) {
    if (value.is_string()) return hide_text(value.get_ref<const std::string&>());
    if (!value.is_structured()) return value;
    Json hidden = value.is_object() ? Json::object() : Json::array();
    for (const auto& [key, entry] : value.items()) {
      if (value.is_object()) {
        hidden[hide_text(key)] = hide_json(entry);
      } else {
        hidden.push_back(hide_json(entry));
      }
    }
    return hidden;
  }

  Json read_message(const ChatMessage& message, std::size_t index) {
    Json json;
    json["role"] = role_name(message.role);
    json["content"] = nullptr;
    if (const auto* text = std::get_if<std::string>(&message.content)) json["content"] = hide_text(*text);
    if (const auto* parts = std::get_if<std::vector<ContentPart>>(&message.content)) {
      json["content"] = Json::array();
      for (const ContentPart& part : *parts) {
        Json entry{{"type", hide_text(part.type)}};
        if (part.type == "text") entry["text"] = hide_text(part.text);
        json["content"].push_back(std::move(entry));
      }
    }
    if (message.reasoning_content) json["reasoning_content"] = hide_text(*message.reasoning_content);
    if (message.name) json["name"] = shield_.hide_name(*message.name);
    if (message.tool_call_id) json["tool_call_id"] = shield_.hide_name(*message.tool_call_id);
    for (const ToolCall& call : message.tool_calls) {
      const std::string what = std::format("message {}: the arguments of the call of '{}'", index, call.name);
      Json entry;
      if (!call.id.empty()) entry["id"] = shield_.hide_name(call.id);
      entry["type"] = "function";
      entry["function"] = {{"name", shield_.hide_name(call.name)}, {"arguments", read_json(call.arguments_json, what)}};
      json["tool_calls"].push_back(std::move(entry));
    }
    return json;
  }

  ControlShield& shield_;
  std::size_t input_bytes_ = 0;
};

}  // namespace

struct ChatTemplate::Impl {
  Impl(std::string_view source, std::vector<std::string> controls)
      : process(std::string(source)), control_texts(std::move(controls)) {}

  TemplateProcess process;
  std::vector<std::string> control_texts;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string_view role_name(Role role) {
  static constexpr std::array<std::string_view, 5> kNames = {"system", "developer", "user", "assistant", "tool"};
  return kNames.at(static_cast<std::size_t>(role));
}

Result<ChatTemplate> ChatTemplate::create(std::string_view source, std::vector<std::string> control_texts) {
  if (source.size() > kMaxSourceBytes) {
    return fail(ErrorCode::kUnsupported,
                std::format("the chat template has {} bytes, more than {}", source.size(), kMaxSourceBytes));
  }
  if (has_placeholder_characters(source)) {
    return fail(ErrorCode::kUnsupported, "the chat template uses the noncharacters U+FDD0 to U+FDEF");
  }
  auto impl = std::make_unique<Impl>(source, std::move(control_texts));
  TRY(impl->process.start());
  return ChatTemplate(std::move(impl));
}

Result<MarkedText> ChatTemplate::render(const ChatRequest& request) const {
  ControlShield shield(impl_->control_texts);
  RequestReader reader(shield);
  Json message;
  try {
    message["variables"] = reader.read_variables(request);
  } catch (const Refused& refused) {
    return fail(ErrorCode::kInvalidArgument, refused.message);
  }
  message["local_seconds"] = nullptr;
  if (request.local_time) message["local_seconds"] = request.local_time->time_since_epoch().count();
  const std::size_t max_text_bytes = kMaxTextBytes + kMaxGrowth * reader.input_bytes();
  message["max_text_bytes"] = max_text_bytes;
  const std::string json = message.dump(-1, ' ', false, Json::error_handler_t::replace);
  return shield.restore(TRY(impl_->process.render(json, max_text_bytes)));
}

}  // namespace baton::text
