// Functions that a model may call, as OpenAI's API names them; Ollama's takes them so, too.
#pragma once

#include "serve/answer_form.h"
#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve {

inline constexpr std::size_t kMostTools = 128;

// 'tools', 'tool_choice' and 'parallel_tool_calls', where they are there.
Result<ToolUse> parse_tools(Fields& body, Nesting nesting = Nesting::kInner);
// An array of {"type": "function", "function": {...}}, or of {"type": "function", ...}.
Result<std::vector<Tool>> parse_tool_list(const Json& value, const std::string& path,
                                          Nesting nesting = Nesting::kInner);
// kInvalidArgument, with the path, where no function may have this name.
Result<void> check_tool_name(const std::string& name, const std::string& path);
// {"type": "function", "function": {...}}
std::string tool_json(std::string_view name, std::string_view description, const Json* parameters);

// Renders the conversation with its functions, and says how the answer is to look and to be read.
Result<void> ask(const ServedModel& model, text::ChatRequest chat, AnswerForm form, ParsedRequest& parsed,
                 AnswerStart start = AnswerStart::kNewMessage);

}  // namespace baton::serve
