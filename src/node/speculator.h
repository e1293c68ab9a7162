// What a request guesses of its own text, to be checked together with its next step, and how that went.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/draft_length.h"
#include "engine/engine.h"
#include "node/proposer.h"
#include "plan/plan.h"

namespace baton::node {

// Guessing changes no token: each is drawn from the model's own logits, as without.
enum class Speculation {
  kAuto,  // where it can gain and the text stays the same bit by bit: by a draft model where there is one
  kOff,
  kLookup,  // wherever it is possible: guesses come from the text so far
  kDraft,   // wherever it is possible: a draft model guesses, of this node or another
};

std::string_view speculation_name(Speculation speculation);  // "auto", "off", "lookup", "draft"
Result<Speculation> parse_speculation(std::string_view name);

struct SpeculationReport {
  std::string how = "off";   // or "lookup", "draft"
  std::string where;         // the node that guesses, where it is another
  std::string why;           // where it is off, or where it ended before the text did
  std::uint32_t checks = 0;  // passes that checked guesses
  std::uint32_t guessed_tokens = 0;
  std::uint32_t right_tokens = 0;
  double guessing_s = 0;  // what the guesses took, a draft model's reading of the prompt included
};

// Why this plan's text cannot be guessed at here; empty where it can. Whether there is a draft model is not asked.
std::string why_not_speculate(Speculation wanted, const plan::Plan& plan, const engine::Engine& engine);

class Speculator {
 public:
  // Rows of a pass that checks a draft.
  static constexpr std::uint32_t kMostRows = 16;

  explicit Speculator(std::unique_ptr<Proposer> proposer);

  // The device has nothing else to do until the prompt's last token has been read elsewhere.
  void prepare() { proposer_->prepare(); }
  // The text goes on.
  void push(Token token);
  // Tokens, `most` of them or fewer or none, that the next pass should check; the text must go on before it is asked
  // again. Calls back once, at once or later, with tokens that are valid until then; never after the speculator is
  // gone.
  using Then = std::move_only_function<void(std::span<const Token>)>;
  void draft(std::uint32_t most, Then then);
  // The pass with the latest draft took so long and made so many tokens: those that were right, and one more.
  void passed(std::uint32_t made, double seconds);

  SpeculationReport report() const;

 private:
  void take(Result<Guess> guess);

  std::unique_ptr<Proposer> proposer_;
  engine::DraftLength length_{kMostRows};
  Guess guess_;
  std::uint32_t right_ = 0;    // so many of its tokens have come true
  bool open_ = false;          // and none has been wrong
  std::uint32_t checked_ = 0;  // so many were the latest draft
  bool has_read_ = false;      // the proposer has read the prompt
  bool failed_ = false;        // and guesses no more
  SpeculationReport report_;
};

}  // namespace baton::node
