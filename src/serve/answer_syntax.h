// How a model marks the parts of an answer: what it thinks, what it says, and which functions it calls. Read from its
// chat template, which says so to nobody else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace baton::serve {

enum class CallSyntax {
  kNone,     // none that is known here
  kHermes,   // <tool_call>{"name": ..., "arguments": {...}}</tool_call>, as Hermes and Qwen write it
  kMistral,  // [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]
  kLlama,    // {"name": ..., "parameters": {...}}, also after <|python_tag|>
  kHarmony,  // gpt-oss: messages to functions.NAME in a channel of their own
};

enum class ThinkSyntax {
  kNone,
  kTags,     // <think>...</think> before the answer
  kHarmony,  // the channel "analysis"
};

struct AnswerSyntax {
  CallSyntax calls = CallSyntax::kNone;
  ThinkSyntax thinks = ThinkSyntax::kNone;

  bool marks_anything() const { return calls != CallSyntax::kNone || thinks != ThinkSyntax::kNone; }
};

AnswerSyntax read_answer_syntax(std::string_view template_source);

// The control tokens of the vocabulary that are such marks: they have to be read by their names.
std::vector<Token> mark_tokens(const AnswerSyntax& syntax, const text::Vocabulary& vocabulary);

// Whether what has been rendered for the model ends with the beginning of its thoughts.
bool ends_in_thought(const AnswerSyntax& syntax, std::string_view rendered);

}  // namespace baton::serve
