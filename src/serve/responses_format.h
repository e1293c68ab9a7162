// How OpenAI's Responses API writes an answer: items of thoughts, text and calls, whole or as a stream of events.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "serve/canonical.h"

namespace baton::serve::responses {

// What an answer repeats of its request.
struct Asked {
  std::string model;
  std::optional<std::string> instructions;
  std::optional<std::uint32_t> max_output_tokens;
  double temperature = 1;
  double top_p = 1;
  std::string text_format = R"({"type":"text"})";
  std::string tools = "[]";
  std::string tool_choice = R"("auto")";
  bool parallel_tool_calls = true;
};

std::unique_ptr<AnswerFormat> answer_format(Asked asked);

}  // namespace baton::serve::responses
