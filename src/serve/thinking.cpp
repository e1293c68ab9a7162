#include "serve/thinking.h"

#include <format>

namespace baton::serve {

namespace {

// Qwen's, SmolLM's, GLM's name, and DeepSeek's and Granite's.
constexpr std::string_view kSwitches[] = {"enable_thinking", "thinking"};
constexpr std::string_view kEffort = "reasoning_effort";

std::string_view effort_name(ThinkingWish wish) {
  switch (wish) {
    case ThinkingWish::kLow: return "low";
    case ThinkingWish::kHigh: return "high";
    case ThinkingWish::kOff:
    case ThinkingWish::kOn:
    case ThinkingWish::kMedium: break;
  }
  return "medium";
}

// What the template makes of a question with these variables; nothing where it cannot.
std::optional<std::string> rendered(const text::ChatTemplate& chat_template,
                                    std::vector<std::pair<std::string, std::string>> variables) {
  text::ChatRequest chat;
  chat.messages.push_back({.role = text::Role::kUser, .content = "Why?"});
  chat.variables = std::move(variables);
  chat.local_time = std::chrono::local_seconds();
  const auto text = chat_template.render(chat);
  if (!text) return std::nullopt;
  return text->bytes();
}

}  // namespace

std::optional<ThinkingWish> effort_named(std::string_view name) {
  for (const ThinkingWish wish : {ThinkingWish::kLow, ThinkingWish::kMedium, ThinkingWish::kHigh}) {
    if (name == effort_name(wish)) return wish;
  }
  return std::nullopt;
}

ThinkingControl::ThinkingControl(const text::ChatTemplate& chat_template, const AnswerSyntax& syntax)
    : thinks_(syntax.thinks != ThinkSyntax::kNone) {
  const auto differs = [&](std::string_view name, std::string_view one, std::string_view other) {
    const auto left = rendered(chat_template, {{std::string(name), std::string(one)}});
    return left && left != rendered(chat_template, {{std::string(name), std::string(other)}});
  };
  for (const std::string_view name : kSwitches) has_switch_ = has_switch_ || differs(name, "true", "false");
  has_effort_ = differs(kEffort, R"("low")", R"("high")");
}

Result<void> ThinkingControl::apply(ThinkingWish wish, const std::string& parameter, text::ChatRequest& chat) const {
  if (wish == ThinkingWish::kOff) {
    if (thinks_ && !has_switch_) {
      return fail(ErrorCode::kUnsupported,
                  std::format("'{}': this model's chat template has no switch by which it could be told not to think",
                              parameter),
                  parameter);
    }
  } else if (!thinks_ && !has_switch_ && !has_effort_) {
    return fail(ErrorCode::kUnsupported,
                std::format("'{}': this model does not think, as far as its chat template says", parameter), parameter);
  }
  if (has_switch_) {
    for (const std::string_view name : kSwitches) {
      chat.variables.emplace_back(name, wish == ThinkingWish::kOff ? "false" : "true");
    }
  }
  const bool has_amount = wish != ThinkingWish::kOff && wish != ThinkingWish::kOn;
  if (has_effort_ && has_amount) {
    chat.variables.emplace_back(kEffort, std::format("\"{}\"", effort_name(wish)));
  }
  return {};
}

}  // namespace baton::serve
