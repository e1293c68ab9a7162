#include "node/guesser.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "node/guess_terms.h"

namespace baton::node {

namespace {

// Cells are not held for a peer that opens a transfer and then never sends its prompt.
constexpr auto kDraftPromptTimeout = std::chrono::seconds(10);

std::uint32_t microseconds(double seconds) { return static_cast<std::uint32_t>(std::clamp(seconds * 1e6, 0.0, 4e9)); }

}  // namespace

Result<std::shared_ptr<Guesser>> Guesser::create(SessionHost& host, const handoff::Open& open, TimePoint lease_end) {
  if (host.draft == nullptr) {
    return fail(ErrorCode::kUnsupported, "this node has no draft model to guess with: start it with --draft FILE");
  }
  const engine::SamplerOptions sampler = TRY(sampler_of(open));
  const std::uint32_t tokens = open.prompt_tokens + open.max_new_tokens;
  auto text = TRY(engine::DraftText::create(*host.draft, sampler, host.widths.logits_values, tokens));
  log::info("request {}: guesses at {} tokens and up to {} more", open.request.hex().substr(0, 12), open.prompt_tokens,
            open.max_new_tokens);
  return std::shared_ptr<Guesser>(new Guesser(host, open, lease_end, std::move(text)));
}

Guesser::Guesser(SessionHost& host, const handoff::Open& open, TimePoint lease_end,
                 std::unique_ptr<engine::DraftText> text)
    : host_(host),
      use_of_host_(host.use),
      open_(open),
      lease_end_(lease_end),
      proposer_(std::make_unique<DraftProposer>(host.loop, host.executor, host.surroundings, std::move(text),
                                                std::span<const Token>())),
      timer_(host.loop) {}

void Guesser::serve(const std::shared_ptr<OutgoingTransfer>& transfer) {
  transfer_ = transfer;
  handoff::Accepted accepted;
  if (host_.draft->emulated()) accepted.pace = handoff::Pace::kEmulated;
  transfer->machine.accept(accepted);
  timer_.start(Duration(kDraftPromptTimeout), [this] { stop({ErrorCode::kTimeout, "the prompt did not come", {}}); });
}

void Guesser::end() {
  timer_.cancel();
  proposer_.reset();
}

void Guesser::stop(const Error& error) {
  end();
  if (const auto transfer = transfer_.lock()) {
    transfer->machine.fail(error);
    transfer->wake();
  }
}

void Guesser::on_sender_event(OutgoingTransfer& /*transfer*/, const handoff::SenderEvent& event) {
  if (proposer_ == nullptr) return;
  if (std::holds_alternative<handoff::PromptArrived>(event)) {
    timer_.start(std::max(lease_end_ - host_.surroundings.now(), Duration::zero()),
                 [this] { stop({ErrorCode::kTimeout, "the request's lease has run out", {}}); });
    read_prompt();
  } else if (const auto* wanted = std::get_if<handoff::GuessesWanted>(&event)) {
    guess(*wanted);
  } else if (std::holds_alternative<handoff::SenderEnded>(event)) {
    end();
  }
}

// In pieces, between which the executor has time for whoever else waits.
void Guesser::read_prompt() {
  const auto transfer = transfer_.lock();
  if (transfer == nullptr) return;
  const auto rest = std::span(transfer->machine.prompt()).subspan(text_tokens_);
  if (rest.empty()) {
    doing_ = Doing::kNothing;
    const TimePoint end = host_.surroundings.now();
    if (const auto done = transfer->machine.finish(end.time_since_epoch().count()); !done) return stop(done.error());
    return transfer->wake();
  }
  doing_ = Doing::kReadingPrompt;
  const auto piece = rest.first(std::min<std::size_t>(rest.size(), host_.draft->options().max_chunk_tokens));
  for (const Token token : piece) proposer_->push(token);
  text_tokens_ += static_cast<std::uint32_t>(piece.size());
  proposer_->propose(0, [this](const Result<Guess>& read) {
    if (!read) return stop(read.error());
    read_prompt();
  });
}

void Guesser::guess(const handoff::GuessesWanted& wanted) {
  if (doing_ == Doing::kReadingPrompt || doing_ == Doing::kGuessing) {
    return stop({ErrorCode::kProtocol, "guesses were asked for while this node had not answered yet", {}});
  }
  for (const Token token : wanted.news) proposer_->push(token);
  text_tokens_ += static_cast<std::uint32_t>(wanted.news.size());
  if (wanted.most == 0) return;
  doing_ = Doing::kGuessing;
  proposer_->propose(wanted.most, [this](Result<Guess> guess) {
    if (!guess) return stop(guess.error());
    answer(*std::move(guess));
  });
}

void Guesser::answer(Guess guess) {
  const auto transfer = transfer_.lock();
  if (transfer == nullptr) return;
  const auto tokens = static_cast<std::uint32_t>(guess.tokens.size());
  transfer->machine.guessed(
      {.position = text_tokens_, .reading_us = microseconds(guess.reading_seconds), .tokens = std::move(guess.tokens)});
  transfer->wake();
  doing_ = Doing::kNothing;
  if (tokens > 0) guess_ahead(tokens + 1);
}

// While the coordinator checks, as if all its guesses were right: then the next have been made when they are asked for.
// Token by token, so that a question waits for no more than one; and only while nobody else waits for the device.
void Guesser::guess_ahead(std::uint32_t tokens) {
  doing_ = Doing::kNothing;
  if (tokens > handoff::kMostGuesses || host_.executor.queued() > 0) return;
  doing_ = Doing::kGuessingAhead;
  proposer_->propose(tokens, [this, tokens](const Result<Guess>& guess) {
    if (doing_ != Doing::kGuessingAhead) return;
    if (!guess) return stop(guess.error());
    if (guess->tokens.size() == tokens) guess_ahead(tokens + 1);
  });
}

void Guesser::on_receiver_event(IncomingTransfer& /*transfer*/, const handoff::ReceiverEvent& /*event*/) {}
void Guesser::on_unreachable(IncomingTransfer& /*transfer*/, const Error& /*error*/) {}
std::shared_ptr<const void> Guesser::keep_alive(ByteSpan /*payload*/) { return nullptr; }

}  // namespace baton::node
