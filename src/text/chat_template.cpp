#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <format>
#include <minja/minja.hpp>

#include "text/control_shield.h"
#include "text/template_guard.h"

namespace baton::text {
namespace {

using Json = nlohmann::ordered_json;
using minja::ArgumentsValue;
using ContextPointer = std::shared_ptr<minja::Context>;

constexpr std::uint64_t kMaxSteps = 500'000;  // beyond what the messages justify
constexpr std::uint64_t kStepsOfMessage = 5'000;
constexpr std::size_t kMaxInputBytes = 64UL << 20;
constexpr std::size_t kMaxTextBytes = 16UL << 20;  // beyond what the input justifies
constexpr std::size_t kMaxItems = 100'000;         // of a list
constexpr std::size_t kMaxStackBytes = 2UL << 20;
constexpr std::int64_t kMaxRange = 10'000;

// Thrown through minja, which would wrap anything that is a std::exception in the lines of its source.
struct Stopped {
  ErrorCode code;
  std::string message;
};

[[noreturn]] void stop(std::string message) { throw Stopped{ErrorCode::kCorrupt, std::move(message)}; }

// The template's variables. minja asks it for every name that no loop or macro has of its own, so this is where a
// rendering is counted.
class CountingContext : public minja::Context {
 public:
  CountingContext(minja::Value values, std::size_t input_bytes, std::size_t messages)
      : Context(std::move(values), Context::builtins()),
        text_limit_(kMaxTextBytes + 8 * input_bytes),
        steps_(kMaxSteps + kStepsOfMessage * messages),
        stack_begin_(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0))) {}

  bool contains(const minja::Value& key) override {
    spend(1);
    const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    const auto used = here < stack_begin_ ? stack_begin_ - here : here - stack_begin_;
    if (used > kMaxStackBytes) stop("the chat template recurses too deeply");
    return Context::contains(key);
  }
  minja::Value& at(const minja::Value& key) override {
    minja::Value& value = Context::at(key);
    spend(value.is_array() ? value.size() / 8 : 0);
    check_size(value);
    // A namespace is where loops put what they build.
    if (value.is_object() && !value.is_callable()) {
      for (const minja::Value& name : value.keys()) check_size(value.at(name));
    }
    return value;
  }
  void set(const minja::Value& key, const minja::Value& value) override {
    check_size(value);
    Context::set(key, value);
  }
  void spend(std::uint64_t steps) {
    if (steps > steps_) stop("the chat template does not come to an end");
    steps_ -= steps;
  }
  void check_size(const minja::Value& value) const {
    const std::size_t limit = value.is_array() ? kMaxItems : text_limit_;
    if ((value.is_array() || value.is_string()) && value.size() > limit) {
      stop("the chat template makes too much text");
    }
  }
  // Macros hold the context that holds them.
  void clear() { values_ = minja::Value::object(); }

 private:
  std::size_t text_limit_;
  std::uint64_t steps_;
  std::uintptr_t stack_begin_;
};

minja::Value bounded_range(CountingContext& context, ArgumentsValue& args) {
  std::vector<std::int64_t> numbers;
  for (const minja::Value& argument : args.args) numbers.push_back(argument.get<std::int64_t>());
  if (numbers.empty() || numbers.size() > 3 || !args.kwargs.empty())
    throw std::runtime_error("range() needs one to three numbers");
  if (numbers.size() == 1) numbers.insert(numbers.begin(), 0);
  const std::int64_t step = numbers.size() == 3 ? numbers[2] : 1;
  if (step == 0) throw std::runtime_error("range() step must not be zero");
  minja::Value list = minja::Value::array();
  for (std::int64_t i = numbers[0]; step > 0 ? i < numbers[1] : i > numbers[1];) {
    if (static_cast<std::int64_t>(list.size()) >= kMaxRange)
      stop(std::format("a range of more than {} numbers", kMaxRange));
    context.spend(1);
    list.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return list;
}

// json.dumps(value, ensure_ascii=False, indent=indent): nlohmann's own layout has other spaces.
void write_json(const Json& value, std::int64_t indent, std::size_t level, std::string& out) {
  const auto new_line = [&](std::size_t depth) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<std::size_t>(indent) * depth, ' ');
  };
  if (!value.is_structured() || value.empty()) {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  bool first = true;
  out += value.is_object() ? '{' : '[';
  for (const auto& [key, entry] : value.items()) {
    if (!first) out += indent < 0 ? ", " : ",";
    first = false;
    new_line(level + 1);
    if (value.is_object()) out += Json(key).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
    write_json(entry, indent, level + 1, out);
  }
  new_line(level);
  out += value.is_object() ? '}' : ']';
}

minja::Value to_json(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("tojson", {1, 2}, {0, 4});
  const minja::Value indent = args.args.size() > 1 ? args.args[1] : args.get_named("indent");
  std::string out;
  write_json(args.args[0].get<Json>(),
             indent.is_null() ? -1 : std::clamp<std::int64_t>(indent.get<std::int64_t>(), 0, 100), 0, out);
  return out;
}

minja::Value replace_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("replace", {3, 3}, {0, 0});
  std::string text = args.args[0].to_str();
  const std::string from = args.args[1].to_str();
  const std::string to = args.args[2].to_str();
  if (from.empty()) throw std::runtime_error("replace() needs a text to look for");
  for (std::size_t i = text.find(from); i != std::string::npos; i = text.find(from, i + to.size())) {
    text.replace(i, from.size(), to);
    if (text.size() > kMaxInputBytes) stop("the chat template makes too much text");
  }
  return text;
}

minja::Value first_filter(const ContextPointer&, ArgumentsValue& args) {
  args.expectArgs("first", {1, 1}, {0, 0});
  return args.args[0].size() == 0 ? minja::Value() : args.args[0].at(std::size_t{0});
}

minja::Value defined_test(const ContextPointer&, ArgumentsValue& args) {
  return !args.args.empty() && !args.args[0].is_null();
}

// A request as the template sees it, with what it must not spell hidden.
class RequestReader {
 public:
  explicit RequestReader(ControlShield& shield) : shield_(shield) {}

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
        if (depth > 100) throw Stopped{ErrorCode::kInvalidArgument, "is nested too deeply"};
        return true;
      });
      return hide_json(value);
    } catch (const nlohmann::json::exception& error) {
      throw Stopped{ErrorCode::kInvalidArgument, std::format("{} is not JSON: {}", what, error.what())};
    } catch (const Stopped& stopped) {
      throw Stopped{stopped.code, std::format("{} {}", what, stopped.message)};
    }
  }
  std::size_t input_bytes() const { return input_bytes_; }

 private:
  std::string hide_text(std::string_view text) {
    input_bytes_ += text.size();
    if (input_bytes_ > kMaxInputBytes) throw Stopped{ErrorCode::kInvalidArgument, "the conversation is too long"};
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

minja::Value time_function(std::chrono::local_seconds time) {
  return minja::Value::callable([time](const ContextPointer&, ArgumentsValue& args) -> minja::Value {
    args.expectArgs("strftime_now", {1, 1}, {0, 0});
    // The local time's number, taken apart as it is.
    const std::time_t seconds = time.time_since_epoch().count();
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    std::array<char, 256> buffer{};
    const std::string format = args.args[0].get<std::string>();
    return std::string(buffer.data(), std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts));
  });
}

void add_functions(const std::shared_ptr<CountingContext>& context, const ChatRequest& request) {
  using minja::Value;
  context->set("range", Value::callable([counter = context.get()](const ContextPointer&, ArgumentsValue& args) {
                 return bounded_range(*counter, args);
               }));
  context->set("raise_exception", Value::callable([](const ContextPointer&, ArgumentsValue& args) -> Value {
                 throw Stopped{ErrorCode::kInvalidArgument,
                               std::format("the model's chat template refuses this conversation: {}",
                                           args.args.empty() ? "it gives no reason" : args.args[0].to_str())};
               }));
  context->set("tojson", Value::callable(to_json));
  context->set("replace", Value::callable(replace_filter));
  context->set("first", Value::callable(first_filter));
  context->set("defined", Value::callable(defined_test));
  if (request.local_time) context->set("strftime_now", time_function(*request.local_time));
}

// minja's "what at row 3, column 5:\n<source>", for each level that it passed, as "line 3: what".
std::string shorten(std::string_view message) {
  constexpr std::string_view kPlace = " at row ";
  const std::size_t place = message.find(kPlace);
  if (place == std::string_view::npos) return std::string(message.substr(0, 300));
  const std::string_view row = message.substr(place + kPlace.size());
  return std::format("line {}: {}", row.substr(0, row.find(',')), message.substr(0, std::min<std::size_t>(place, 300)));
}

}  // namespace

struct ChatTemplate::Impl {
  std::shared_ptr<minja::TemplateNode> root;
  std::vector<std::string> control_texts;
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string_view role_name(Role role) {
  static constexpr std::array<std::string_view, 5> kNames = {"system", "developer", "user", "assistant", "tool"};
  return kNames.at(static_cast<std::size_t>(role));
}

Result<ChatTemplate> ChatTemplate::create(std::string_view source, std::vector<std::string> control_texts) {
  std::string checked = TRY(check_template(source));
  // Jinja does not count the last line's end.
  if (checked.ends_with('\n')) checked.pop_back();
  auto impl = std::make_unique<Impl>();
  impl->control_texts = std::move(control_texts);
  try {
    impl->root =
        minja::Parser::parse(checked, {.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = true});
  } catch (const std::exception& error) {
    return fail(ErrorCode::kCorrupt, std::format("the chat template does not parse: {}", shorten(error.what())));
  }
  return ChatTemplate(std::move(impl));
}

Result<MarkedText> ChatTemplate::render(const ChatRequest& request) const {
  ControlShield shield(impl_->control_texts);
  std::shared_ptr<CountingContext> context;
  const auto attempt = [&]() -> Result<MarkedText> {
    try {
      RequestReader reader(shield);
      Json variables = Json::object();
      for (const auto& [name, json] : request.variables) {
        variables[name] = reader.read_json(json, std::format("the template variable '{}'", name));
      }
      variables["messages"] = reader.read_messages(request.messages);
      variables["tools"] = reader.read_values(request.tools_json, "tool");
      variables["documents"] = reader.read_values(request.documents_json, "document");
      variables["add_generation_prompt"] = request.generation_prompt == GenerationPrompt::kAdd;
      variables["bos_token"] = request.bos_token;
      variables["eos_token"] = request.eos_token;
      context =
          std::make_shared<CountingContext>(minja::Value(variables), reader.input_bytes(), request.messages.size());
      add_functions(context, request);
      const std::string text = impl_->root->render(context);
      context->check_size(minja::Value(text));
      return shield.restore(text);
    } catch (const Stopped& stopped) {
      return fail(stopped.code, stopped.message);
    } catch (const std::exception& error) {
      return fail(ErrorCode::kCorrupt, std::format("the chat template failed at {}", shorten(error.what())));
    }
  };
  auto text = attempt();
  if (context) context->clear();
  return text;
}

}  // namespace baton::text
