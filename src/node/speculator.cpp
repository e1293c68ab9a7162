#include "node/speculator.h"

#include <algorithm>
#include <format>

namespace baton::node {

std::string_view speculation_name(Speculation speculation) {
  switch (speculation) {
    case Speculation::kAuto: return "auto";
    case Speculation::kOff: return "off";
    case Speculation::kLookup: return "lookup";
  }
  return "?";
}

Result<Speculation> parse_speculation(std::string_view name) {
  for (const Speculation known : {Speculation::kAuto, Speculation::kOff, Speculation::kLookup}) {
    if (name == speculation_name(known)) return known;
  }
  return fail(ErrorCode::kInvalidArgument, std::format("--speculate is auto, off or lookup, not '{}'", name));
}

std::string why_not_speculate(Speculation wanted, const plan::Plan& plan, const engine::Engine& engine) {
  if (wanted == Speculation::kOff) return "not wanted";
  if (plan.decode.size() != 1 || plan.decode.front().node != plan::kCoordinator) {
    return "another node decodes some layers";
  }
  if (engine.tokens_to_take_back() < Speculator::kMostRows) return "a layer of this model cannot take tokens back";
  if (wanted == Speculation::kLookup) return {};
  if (!engine.steps_exactly()) return "this device's last bits depend on how many rows it computes";
  if (engine.emulated()) return "an emulated device is to show what it does without";
  return {};
}

Speculator::Speculator(std::span<const Token> prompt) {
  report_.how = speculation_name(Speculation::kLookup);
  for (const Token token : prompt) lookup_.push(token);
}

// Every guess is judged by what the text became, whether a pass checked it or not: to know what guesses are worth costs
// nothing.
void Speculator::push(Token token) {
  lookup_.push(token);
  if (!open_) return;
  if (right_ < guess_.tokens.size() && guess_.tokens[right_] == token) {
    ++right_;
    return;
  }
  open_ = false;
  const bool wrong = right_ < guess_.tokens.size();
  using Ending = engine::DraftLength::Ending;
  length_.guessed(guess_.matched, right_, wrong ? Ending::kWrong : Ending::kOpen);
}

std::span<const Token> Speculator::draft(std::uint32_t most) {
  if (open_) length_.guessed(guess_.matched, right_, engine::DraftLength::Ending::kOpen);
  guess_ = lookup_.guess(std::min(most, kMostRows - 1));
  right_ = 0;
  open_ = !guess_.tokens.empty();
  checked_ = open_ ? length_.choose(guess_.matched, static_cast<std::uint32_t>(guess_.tokens.size())) : 0;
  if (checked_ > 0) {
    ++report_.checks;
    report_.guessed_tokens += checked_;
  }
  return std::span(guess_.tokens).first(checked_);
}

void Speculator::passed(std::uint32_t made, double seconds) {
  length_.passed(checked_ + 1, made, seconds);
  report_.right_tokens += made - 1;
  checked_ = 0;
}

}  // namespace baton::node
