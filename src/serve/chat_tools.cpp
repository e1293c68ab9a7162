#include "serve/chat_tools.h"

#include <algorithm>
#include <format>

namespace baton::serve {

namespace {

constexpr std::size_t kLongestToolName = 64;

// What a value of type "function" says of it; `fields` are the value's own, of which the type has been taken.
Result<Fields> function_of(const Json& value, Fields& fields, Nesting nesting) {
  if (nesting == Nesting::kBeside) {
    Fields same = TRY(Fields::of(value, fields.path()));
    same.allow({"type"});
    return same;
  }
  const Json* function = fields.take("function");
  if (function == nullptr) return fields.wrong("function", "is missing");
  TRY(fields.refuse_rest());
  return Fields::of(*function, fields.path_of("function"));
}

Result<Tool> parse_tool(const Json& value, const std::string& path, Nesting nesting) {
  Fields fields = TRY(Fields::of(value, path));
  const std::string type = TRY(fields.required_text("type"));
  if (type != "function") {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}' is '{}': this server knows only functions", fields.path_of("type"), type),
                fields.path_of("type"));
  }
  Fields inner = TRY(function_of(value, fields, nesting));
  Tool tool;
  tool.name = TRY(inner.required_text("name"));
  TRY(check_tool_name(tool.name, inner.path_of("name")));
  const auto description = TRY(inner.text("description"));
  const Json* parameters = inner.take("parameters");
  if (TRY(inner.flag("strict")).value_or(false)) tool.strictness = Tool::Strictness::kAlways;
  TRY(inner.refuse_rest());
  if (parameters != nullptr) {
    if (!parameters->is_object()) return inner.wrong("parameters", "must be an object");
    tool.schema = *parameters;
  }
  tool.schema_path = inner.path_of("parameters");
  tool.json = tool_json(tool.name, description.value_or(""), parameters);
  return tool;
}

Result<void> parse_choice(const Json& value, const Fields& body, Nesting nesting, ToolUse& use) {
  if (value.is_string()) {
    const std::string& choice = value.get<std::string>();
    if (choice == "none") {
      use.choice = ToolChoice::kNone;
    } else if (choice == "auto") {
      use.choice = ToolChoice::kAuto;
    } else if (choice == "required") {
      use.choice = ToolChoice::kRequired;
    } else {
      return body.wrong("tool_choice",
                        std::format("is '{}', but must be none, auto, required or name a function", choice));
    }
    return {};
  }
  Fields fields = TRY(Fields::of(value, body.path_of("tool_choice")));
  if (TRY(fields.required_text("type")) != "function") return fields.wrong("type", "must be 'function'");
  Fields inner = TRY(function_of(value, fields, nesting));
  use.choice = ToolChoice::kRequired;
  use.only = TRY(inner.required_text("name"));
  return inner.refuse_rest();
}

}  // namespace

Result<void> check_tool_name(const std::string& name, const std::string& path) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  if (!name.empty() && name.size() <= kLongestToolName && std::ranges::all_of(name, allowed)) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::format("'{}' must have 1 to {} letters, digits, '_', '-' and '.'", path, kLongestToolName), path);
}

std::string tool_json(std::string_view name, std::string_view description, const Json* parameters) {
  JsonObject function;
  function.text("name", name).text("description", description);
  function.raw("parameters", parameters == nullptr ? R"({"type":"object","properties":{}})" : to_json(*parameters));
  return JsonObject().text("type", "function").raw("function", function.str()).str();
}

Result<std::vector<Tool>> parse_tool_list(const Json& value, const std::string& path, Nesting nesting) {
  if (!value.is_array()) return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be an array", path), path);
  const auto& items = value.get_array();
  if (items.size() > kMostTools) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' may hold at most {} functions", path, kMostTools), path);
  }
  std::vector<Tool> tools;
  for (std::size_t index = 0; index < items.size(); ++index) {
    tools.push_back(TRY(parse_tool(items[index], std::format("{}[{}]", path, index), nesting)));
  }
  return tools;
}

Result<ToolUse> parse_tools(Fields& body, Nesting nesting) {
  ToolUse use;
  if (const Json* tools = body.take("tools")) use.tools = TRY(parse_tool_list(*tools, body.path_of("tools"), nesting));
  if (const Json* choice = body.take("tool_choice")) {
    TRY(parse_choice(*choice, body, nesting, use));
    if (use.choice == ToolChoice::kRequired && use.tools.empty()) {
      return body.wrong("tool_choice", "asks for a call, but there are no 'tools'");
    }
  }
  if (!TRY(body.flag("parallel_tool_calls")).value_or(true)) use.count = ToolUse::Count::kOne;
  return use;
}

Result<void> ask(const ServedModel& model, text::ChatRequest chat, AnswerForm form, ParsedRequest& parsed,
                 AnswerStart start) {
  ToolUse& use = form.tools;
  if (use.any()) {
    if (model.can_chat() && !model.can_call()) {
      return fail(
          ErrorCode::kUnsupported,
          "'tools' is not supported with this model: its chat template has no way of calling functions that this "
          "server knows",
          "tools");
    }
    std::vector<std::string> names;
    for (const Tool& tool : use.tools) {
      if (std::ranges::find(names, tool.name) != names.end()) {
        return fail(ErrorCode::kInvalidArgument, std::format("'tools' has two functions '{}'", tool.name), "tools");
      }
      names.push_back(tool.name);
      chat.tools_json.push_back(tool.json);
    }
    if (use.only && std::ranges::find(names, *use.only) == names.end()) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("'tool_choice' names '{}', which is not in 'tools'", *use.only), "tool_choice");
    }
  }
  ChatPrompt prompt = TRY(model.chat_prompt(std::move(chat), start));
  if (use.any()) {
    for (const Tool& tool : use.tools) prompt.reading.functions.push_back(tool.name);
  }
  CanonicalRequest& request = parsed.request;
  request.form = TRY(model.form(form, prompt.reading));
  request.prompts.push_back(std::move(prompt.tokens));
  if (prompt.reading.syntax.marks_anything()) {
    request.marks = model.marks();
    parsed.reading = std::move(prompt.reading);
  }
  return {};
}

}  // namespace baton::serve
