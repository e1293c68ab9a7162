// Another node's text, at which this node's draft model guesses: the sending end of a transfer of guesses
// (docs/formats/kv-stream.md). Lives on the loop's thread; passes run on the executor's.
#pragma once

#include <memory>

#include "node/draft_proposer.h"
#include "node/exchange.h"
#include "node/session.h"

namespace baton::node {

class Guesser : public TransferOwner {
 public:
  // `open` wants guesses, has passed check() and may be worked for until the lease ends. kUnsupported where this node
  // has no draft model, kNoCapacity where the draft model has no cells left for such a text. The host outlives it.
  static Result<std::shared_ptr<Guesser>> create(SessionHost& host, const handoff::Open& open, TimePoint lease_end);

  // Once, for the transfer that `open` opened.
  void serve(const std::shared_ptr<OutgoingTransfer>& transfer);
  // Ends the work, and tells the coordinator why.
  void stop(const Error& error);
  const handoff::Open& open() const { return open_; }

  void on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) override;
  void on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) override;
  void on_unreachable(IncomingTransfer& transfer, const Error& error) override;
  std::shared_ptr<const void> keep_alive(ByteSpan payload) override;

 private:
  Guesser(SessionHost& host, const handoff::Open& open, TimePoint lease_end, std::unique_ptr<engine::DraftText> text);
  void end();
  void read_prompt();
  void guess(const handoff::GuessesWanted& wanted);
  void answer(Guess guess);
  void guess_ahead(std::uint32_t tokens);

  SessionHost& host_;
  const std::shared_ptr<const void> use_of_host_;
  const handoff::Open open_;
  const TimePoint lease_end_;
  std::weak_ptr<OutgoingTransfer> transfer_;
  std::unique_ptr<DraftProposer> proposer_;  // null when it has ended
  std::uint32_t text_tokens_ = 0;            // that the proposer has been told
  // Guesses for nobody yet are given up for those that are asked for.
  enum class Doing { kNothing, kReadingPrompt, kGuessing, kGuessingAhead };
  Doing doing_ = Doing::kNothing;
  net::Timer timer_;  // for the prompt, then for the lease
};

}  // namespace baton::node
