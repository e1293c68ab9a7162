// What a sender does with each message.
#include <algorithm>
#include <format>

#include "handoff/sender.h"

namespace baton::handoff {

namespace {

template <typename T>
bool is(const Message& message) {
  return std::holds_alternative<T>(message.body);
}

// The receiver may open again with other credit, but not ask for something else.
bool same_request(const Open& first, Open again) {
  again.allowed_bytes = first.allowed_bytes;
  return first == again;
}

}  // namespace

std::vector<SenderEvent> Sender::broken(std::string message, TimePoint now) {
  attached_ = false;
  lost_at_ = now;
  return {ConnectionLost{{ErrorCode::kProtocol, std::move(message), {}}}};
}

std::vector<SenderEvent> Sender::receive(const Message& message, TimePoint now) {
  note_call(now);
  const std::uint32_t generation = message.generation;
  if (message.transfer != transfer_ || generation < generation_) return {};
  if (over()) return receive_after_end(message, now);

  // A message of a new generation comes over a new connection; only four kinds may be its first.
  const bool is_new = generation > generation_;
  if (is<Cancel>(message)) {
    const Error error = std::get<Cancel>(message.body).error.to_error();
    end(State::kCancelled, error);
    return {SenderEnded{SenderEnded::Reason::kCancelled, error}};
  }
  if (is<Commit>(message) && (is_new || attached_)) return on_commit(generation, now);
  if (is<Open>(message) && is_new) return on_open(generation, std::get<Open>(message.body), now);
  if (is<Resume>(message) && is_new) return on_resume(generation, std::get<Resume>(message.body), now);
  if (is_new) return broken(std::format("{} came before the transfer was resumed", message_name(message.body)), now);
  if (!attached_) return {};

  last_heard_ = now;
  if (is<Open>(message) || is<Resume>(message)) return {};  // repeated
  if (const auto* prompt = std::get_if<Prompt>(&message.body)) return on_prompt(*prompt, now);
  if (const auto* credit = std::get_if<Credit>(&message.body)) return on_credit(*credit, now);
  if (const auto* step = std::get_if<Step>(&message.body)) return on_step(*step, now);
  if (const auto* draft = std::get_if<Draft>(&message.body)) return on_draft(*draft, now);
  if (const auto* ping = std::get_if<Ping>(&message.body)) {
    pong_ = Pong{ping->receiver_time_ns, now.time_since_epoch().count()};
    return {};
  }
  return broken(std::format("{} is not for a sender", message_name(message.body)), now);
}

// The last word is repeated for a receiver that did not hear it.
std::vector<SenderEvent> Sender::receive_after_end(const Message& message, TimePoint now) {
  const bool asks = is<Open>(message) || is<Resume>(message) || is<Commit>(message);
  if (!asks || state_ == State::kCancelled || (state_ == State::kCommitted && !is<Commit>(message))) return {};
  const bool is_new = message.generation > generation_;
  if (!is_new && !attached_) return {};
  generation_ = message.generation;
  attached_ = true;
  last_heard_ = now;
  last_word_due_ = true;
  return is_new ? Events{Attached{}} : Events{};
}

std::vector<SenderEvent> Sender::on_open(std::uint32_t generation, const Open& open, TimePoint now) {
  if (!same_request(open_, open)) return broken("a transfer was opened again as another one", now);
  attach(generation, open.allowed_bytes, now);
  accepted_sent_ = false;  // or the receiver would have resumed
  return {Attached{}};
}

std::vector<SenderEvent> Sender::on_prompt(const Prompt& prompt, TimePoint now) {
  const std::size_t end = std::size_t{prompt.offset} + prompt.tokens.size();
  if (prompt.offset > prompt_.size() || end > open_.prompt_tokens) {
    return broken(std::format("prompt tokens {}..{} came after {} of {}", prompt.offset, end, prompt_.size(),
                              open_.prompt_tokens),
                  now);
  }
  if (end <= prompt_.size()) return {};  // repeated
  const auto known = static_cast<std::ptrdiff_t>(prompt_.size() - prompt.offset);
  prompt_.insert(prompt_.end(), prompt.tokens.begin() + known, prompt.tokens.end());
  if (prompt_.size() < open_.prompt_tokens) return {};
  return {PromptArrived{}};
}

std::vector<SenderEvent> Sender::on_resume(std::uint32_t generation, const Resume& resume, TimePoint now) {
  if (!accepted_sent_) return broken("a transfer was resumed that had not been accepted", now);
  Events events;
  events.emplace_back(Attached{});
  if (auto known = acknowledge(resume.held, events); !known) return broken(known.error().message, now);
  attach(generation, resume.allowed_bytes, now);
  return events;
}

std::vector<SenderEvent> Sender::on_credit(const Credit& credit, TimePoint now) {
  Events events;
  if (auto known = acknowledge(credit.held, events); !known) return broken(known.error().message, now);
  allowed_bytes_ = std::max(allowed_bytes_, credit.allowed_bytes);
  return events;
}

std::vector<SenderEvent> Sender::on_step(const Step& step, TimePoint now) {
  if (!flow_.steps || wants_guesses(open_) || !accepted_sent_ || step.position > next_step_ ||
      step.position >= flow_.end_position) {
    return broken(std::format("a step at position {} is not possible now", step.position), now);
  }
  if (step.position < next_step_) return {};
  ++next_step_;
  return {StepRequested{step.position, step.token}};
}

std::vector<SenderEvent> Sender::on_draft(Draft draft, TimePoint now) {
  const std::size_t end = std::size_t{draft.position} + draft.tokens.size();
  if (!wants_guesses(open_) || !accepted_sent_ || draft.position != next_step_ || end > flow_.end_position) {
    return broken(std::format("a text that goes on from {} to {} cannot be guessed at now", draft.position, end), now);
  }
  next_step_ = static_cast<std::uint32_t>(end);
  return {GuessesWanted{draft.most, std::move(draft.tokens)}};
}

std::vector<SenderEvent> Sender::on_commit(std::uint32_t generation, TimePoint now) {
  Events events;
  if (generation > generation_) events.emplace_back(Attached{});
  generation_ = generation;
  attached_ = true;
  last_heard_ = now;
  end(State::kCommitted, {});
  last_word_due_ = true;
  events.emplace_back(SenderEnded{SenderEnded::Reason::kCommitted, {}});
  return events;
}

Result<void> Sender::acknowledge(const std::vector<HeldRange>& held, Events& events) {
  for (const HeldRange& range : held) {
    const auto of = lanes_.find({range.kind, range.layer});
    if (of == lanes_.end() || range.up_to_position > of->second.offered_up_to) {
      return baton::fail(ErrorCode::kProtocol,
                         std::format("the receiver claims {} of layer {} up to position {}, which was never offered",
                                     slice_kind_name(range.kind), range.layer, range.up_to_position));
    }
    auto& offers = of->second.offers;
    while (!offers.empty() && offers.front().slice.key.end_position() <= range.up_to_position) {
      events.emplace_back(Acknowledged{offers.front().slice.key});
      offers.pop_front();
    }
  }
  return {};
}

}  // namespace baton::handoff
