#include "node/speculator.h"

#include <algorithm>
#include <format>
#include <utility>

namespace baton::node {

std::string_view speculation_name(Speculation speculation) {
  switch (speculation) {
    case Speculation::kAuto: return "auto";
    case Speculation::kOff: return "off";
    case Speculation::kLookup: return "lookup";
    case Speculation::kDraft: return "draft";
  }
  return "?";
}

Result<Speculation> parse_speculation(std::string_view name) {
  for (const Speculation known : {Speculation::kAuto, Speculation::kOff, Speculation::kLookup, Speculation::kDraft}) {
    if (name == speculation_name(known)) return known;
  }
  return fail(ErrorCode::kInvalidArgument, std::format("--speculate is auto, off, lookup or draft, not '{}'", name));
}

std::string why_not_speculate(Speculation wanted, const plan::Plan& plan, const engine::Engine& engine) {
  if (wanted == Speculation::kOff) return "not wanted";
  if (plan.decode.size() != 1 || plan.decode.front().node != plan::kCoordinator) {
    return "another node decodes some layers";
  }
  if (engine.tokens_to_take_back() < Speculator::kMostRows) return "a layer of this model cannot take tokens back";
  if (wanted != Speculation::kAuto) return {};
  if (!engine.steps_exactly()) return "this device's last bits depend on how many rows it computes";
  if (engine.emulated()) return "an emulated device is to show what it does without";
  return {};
}

Speculator::Speculator(std::unique_ptr<Proposer> proposer) : proposer_(std::move(proposer)) {
  report_.how = proposer_->name();
  report_.where = proposer_->where();
}

SpeculationReport Speculator::report() const {
  SpeculationReport report = report_;
  if (report.why.empty()) report.why = proposer_->why_silent();
  return report;
}

// Every guess is judged by what the text became, whether a pass checked it or not: to know what guesses are worth costs
// nothing.
void Speculator::push(Token token) {
  if (!failed_) proposer_->push(token);
  if (!open_) return;
  if (right_ < guess_.tokens.size() && guess_.tokens[right_] == token) {
    if (right_++ < checked_) ++report_.right_tokens;
    return;
  }
  open_ = false;
  const bool wrong = right_ < guess_.tokens.size();
  using Ending = engine::DraftLength::Ending;
  length_.guessed(guess_.confidence, right_, wrong ? Ending::kWrong : Ending::kOpen);
}

void Speculator::draft(std::uint32_t most, Then then) {
  if (open_) length_.guessed(guess_.confidence, right_, engine::DraftLength::Ending::kOpen);
  open_ = false;
  guess_ = {};
  checked_ = 0;
  most = std::min(most, kMostRows - 1);
  if (proposer_->cost() == Proposer::Cost::kTime) {
    most = length_.choose(0, most);
    if (most == 0) length_.not_guessed(0);
  }
  if (failed_ || most == 0) return then({});
  proposer_->propose(most, [this, then = std::move(then)](Result<Guess> guess) mutable {
    take(std::move(guess));
    then(std::span(guess_.tokens).first(checked_));
  });
}

void Speculator::take(Result<Guess> guess) {
  if (!guess) {
    report_.why = guess.error().message;
    failed_ = true;
    return;
  }
  guess_ = *std::move(guess);
  report_.guessing_s += guess_.seconds + guess_.reading_seconds;
  // To read the prompt is what a draft model costs once, whatever its guesses are worth.
  if (has_read_) length_.lost(guess_.reading_seconds);
  has_read_ = true;
  right_ = 0;
  open_ = !guess_.tokens.empty();
  const auto guesses = static_cast<std::uint32_t>(guess_.tokens.size());
  if (proposer_->cost() == Proposer::Cost::kTime) {
    checked_ = guesses;
  } else if (open_) {
    checked_ = length_.choose(guess_.confidence, guesses);
  }
  if (checked_ == 0) {
    length_.lost(std::exchange(guess_.seconds, 0));
    return;
  }
  ++report_.checks;
  report_.guessed_tokens += checked_;
}

void Speculator::passed(std::uint32_t made, double seconds) {
  length_.passed(checked_ + 1, made, seconds + std::exchange(guess_.seconds, 0));
  checked_ = 0;
}

}  // namespace baton::node
