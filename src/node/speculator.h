// What a request guesses of its own text, to be checked together with its next step, and how that went.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/draft_length.h"
#include "engine/engine.h"
#include "engine/prompt_lookup.h"
#include "plan/plan.h"

namespace baton::node {

// Guessing changes no token: each is drawn from the model's own logits, as without.
enum class Speculation {
  kAuto,  // where it can gain and the text stays the same bit by bit
  kOff,
  kLookup,  // wherever it is possible: guesses come from the text so far
};

std::string_view speculation_name(Speculation speculation);  // "auto", "off", "lookup"
Result<Speculation> parse_speculation(std::string_view name);

struct SpeculationReport {
  std::string how = "off";   // or "lookup"
  std::string why;           // where it is off
  std::uint32_t checks = 0;  // passes that checked guesses
  std::uint32_t guessed_tokens = 0;
  std::uint32_t right_tokens = 0;
};

// Why this plan's text cannot be guessed at here; empty where it can.
std::string why_not_speculate(Speculation wanted, const plan::Plan& plan, const engine::Engine& engine);

class Speculator {
 public:
  // Rows of a pass that checks a draft.
  static constexpr std::uint32_t kMostRows = 16;

  explicit Speculator(std::span<const Token> prompt);

  // The text goes on.
  void push(Token token);
  // Tokens, `most` of them or fewer or none, that the next pass should check; the text must go on before it is asked
  // again. Valid until then.
  std::span<const Token> draft(std::uint32_t most);
  // The pass with the latest draft took so long and made so many tokens: those that were right, and one more.
  void passed(std::uint32_t made, double seconds);

  const SpeculationReport& report() const { return report_; }

 private:
  engine::PromptLookup lookup_;
  engine::DraftLength length_{kMostRows};
  engine::PromptLookup::Guess guess_;
  std::uint32_t right_ = 0;    // so many of its tokens have come true
  bool open_ = false;          // and none has been wrong
  std::uint32_t checked_ = 0;  // so many were the latest draft
  SpeculationReport report_;
};

}  // namespace baton::node
