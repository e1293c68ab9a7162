#include "serve/answer_syntax.h"

namespace baton::serve {

AnswerSyntax read_answer_syntax(std::string_view source) {
  AnswerSyntax syntax;
  if (source.contains("<|channel|>") && source.contains("<|message|>")) {
    return {CallSyntax::kHarmony, ThinkSyntax::kHarmony};
  }
  if (source.contains("<think>") || source.contains("</think>")) syntax.thinks = ThinkSyntax::kTags;
  // Others put something else than JSON between the same tags, or a name before the list.
  const bool other_inside = source.contains("<arg_key>") || source.contains("<function=");
  if (source.contains("<tool_call>") && !other_inside) {
    syntax.calls = CallSyntax::kHermes;
  } else if (source.contains("[TOOL_CALLS]") && !source.contains("[ARGS]")) {
    syntax.calls = CallSyntax::kMistral;
  } else if (source.contains("<|python_tag|>") || (source.contains("ipython") && source.contains("\"parameters\""))) {
    syntax.calls = CallSyntax::kLlama;
  }
  return syntax;
}

std::vector<Token> mark_tokens(const AnswerSyntax& syntax, const text::Vocabulary& vocabulary) {
  std::vector<Token> tokens;
  const auto add = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) {
      const auto token = vocabulary.find(name);
      if (token && vocabulary.type(*token) == text::TokenType::kControl) tokens.push_back(*token);
    }
  };
  if (syntax.thinks == ThinkSyntax::kTags) add({"<think>", "</think>"});
  switch (syntax.calls) {
    case CallSyntax::kNone: break;
    case CallSyntax::kHermes: add({"<tool_call>", "</tool_call>"}); break;
    case CallSyntax::kMistral: add({"[TOOL_CALLS]"}); break;
    case CallSyntax::kLlama: add({"<|python_tag|>"}); break;
    case CallSyntax::kHarmony: add({"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>"}); break;
  }
  return tokens;
}

bool ends_in_thought(const AnswerSyntax& syntax, std::string_view rendered) {
  if (syntax.thinks != ThinkSyntax::kTags) return false;
  const std::size_t last = rendered.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && rendered.substr(0, last + 1).ends_with("<think>");
}

}  // namespace baton::serve
