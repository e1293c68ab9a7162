// Whether a model thinks before it answers, as far as it lets itself be told: by variables of its chat template, for
// which every API has another name.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/answer_syntax.h"
#include "text/chat_template.h"

namespace baton::serve {

enum class ThinkingWish { kOff, kOn, kLow, kMedium, kHigh };

// "low", "medium", "high"; nothing for other words.
std::optional<ThinkingWish> effort_named(std::string_view name);

class ThinkingControl {
 public:
  ThinkingControl() = default;
  // Renders a short conversation with each value, to see which variables make a difference. Waits for the template's
  // process.
  ThinkingControl(const text::ChatTemplate& chat_template, const AnswerSyntax& syntax);

  // Puts the wish into the template's variables. kUnsupported, with `parameter` as context, where nothing is to be
  // thought but the template cannot be told so, or where a model is to think that does not. How much, where the
  // template knows only whether, is left to the model.
  Result<void> apply(ThinkingWish wish, const std::string& parameter, text::ChatRequest& chat) const;

  bool has_switch() const { return has_switch_; }
  bool has_effort() const { return has_effort_; }

 private:
  bool thinks_ = false;  // its answers may have thoughts in them
  bool has_switch_ = false;
  bool has_effort_ = false;
};

}  // namespace baton::serve
