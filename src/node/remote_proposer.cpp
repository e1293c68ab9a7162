#include "node/remote_proposer.h"

#include <algorithm>
#include <format>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "node/guess_terms.h"
#include "node/lease.h"

namespace baton::node {

// The transfer's owner, which may live longer than the proposer: as long as the goodbye takes.
class RemoteProposer::Talk : public TransferOwner, public std::enable_shared_from_this<Talk> {
 public:
  Talk(SessionHost& host, const handoff::Open& request, plan::NodeRef peer, const engine::SamplerOptions& sampler,
       std::span<const Token> text, std::uint32_t most)
      : host_(host),
        request_(request),
        peer_(std::move(peer)),
        sampler_(sampler),
        most_tokens_(static_cast<std::uint32_t>(text.size()) + most),
        news_(text.begin(), text.end()),
        resumed_(host.surroundings.now()),
        patience_(host.loop) {}

  const plan::NodeRef& peer() const { return peer_; }
  std::string why_silent() const;
  void push(Token token);
  void propose(std::uint32_t most, Done done);
  // Nobody wants guesses any more.
  void end();

  void on_sender_event(OutgoingTransfer& /*transfer*/, const handoff::SenderEvent& /*event*/) override {}
  void on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) override;
  void on_unreachable(IncomingTransfer& /*transfer*/, const Error& error) override { lose(error); }
  std::shared_ptr<const void> keep_alive(ByteSpan /*payload*/) override { return nullptr; }

 private:
  Result<void> begin();
  Result<void> ask(std::uint32_t most);
  void take(const handoff::Guesses& guesses);
  void wait_no_longer();
  void lose(const Error& error);
  void cancel(const Error& error);
  void answer(Result<Guess> guess);

  SessionHost& host_;
  const handoff::Open request_;
  const plan::NodeRef peer_;
  const engine::SamplerOptions sampler_;
  const std::uint32_t most_tokens_;  // of the text in the end
  std::vector<Token> news_;          // of the text, that the peer has not been told
  std::uint32_t told_tokens_ = 0;
  bool begun_ = false;
  std::weak_ptr<IncomingTransfer> transfer_;  // gone before the text goes on, and after the end
  bool ready_ = false;                        // the peer has read what the text began with
  std::optional<Error> lost_;                 // there will be no more guesses
  bool asking_ = false;                       // the peer has not answered yet
  Done waiting_;                              // for its answer
  TimePoint asked_{};
  TimePoint resumed_;  // when the pass under way began, as far as can be told here
  Duration longest_pass_{};
  net::Timer patience_;
};

void RemoteProposer::Talk::push(Token token) {
  const TimePoint now = host_.surroundings.now();
  longest_pass_ = std::max(longest_pass_, now - std::exchange(resumed_, now));
  news_.push_back(token);
  if (begun_ || lost_) return;
  begun_ = true;
  longest_pass_ = {};  // it was not a pass but the prompt
  if (const auto begun = begin(); !begun) lose(begun.error());
}

Result<void> RemoteProposer::Talk::begin() {
  const auto text_tokens = static_cast<std::uint32_t>(news_.size());
  handoff::Open open = open_for_guesses(request_,
                                        {.peer = peer_,
                                         .layers = host_.widths.layers(),
                                         .text_tokens = text_tokens,
                                         .more_tokens = most_tokens_ - std::min(most_tokens_, text_tokens)},
                                        sampler_);
  if (host_.lease_key) open.lease = lease_for(open, *host_.lease_key);
  handoff::TransferId id;
  host_.surroundings.fill_random(id.bytes);
  auto machine = TRY(handoff::Receiver::create(id, std::move(open), std::exchange(news_, {}), host_.widths, {},
                                               host_.surroundings.now()));
  told_tokens_ = text_tokens;
  transfer_ = host_.exchange.open(shared_from_this(), peer_, std::move(machine));
  return {};
}

void RemoteProposer::Talk::propose(std::uint32_t most, Done done) {
  if (lost_) return done(std::unexpected(*lost_));
  if (!ready_ || asking_) return done(Guess());
  asked_ = host_.surroundings.now();
  waiting_ = std::move(done);
  if (const auto asked = ask(most); !asked) return lose(asked.error());
  asking_ = true;
  patience_.start(std::max(kLeastPatience, kPatienceInPasses * longest_pass_), [this] { wait_no_longer(); });
}

Result<void> RemoteProposer::Talk::ask(std::uint32_t most) {
  const auto transfer = transfer_.lock();
  if (transfer == nullptr) return fail(ErrorCode::kUnavailable, "the transfer of its guesses is over");
  std::span<const Token> news = news_;
  while (true) {
    const auto part = news.first(std::min(news.size(), handoff::kTokensPerPromptFrame));
    news = news.subspan(part.size());
    TRY(transfer->machine.guess(
        {.position = told_tokens_, .most = news.empty() ? most : 0, .tokens = {part.begin(), part.end()}}));
    told_tokens_ += static_cast<std::uint32_t>(part.size());
    if (news.empty()) break;
  }
  news_.clear();
  transfer->wake();
  return {};
}

void RemoteProposer::Talk::on_receiver_event(IncomingTransfer& /*transfer*/, const handoff::ReceiverEvent& event) {
  if (lost_) return;
  if (std::holds_alternative<handoff::DoneReceived>(event)) {
    ready_ = true;
  } else if (const auto* received = std::get_if<handoff::GuessesReceived>(&event)) {
    take(received->guesses);
  } else if (const auto* broken = std::get_if<handoff::ConnectionLost>(&event)) {
    lose(broken->error);
  } else if (const auto* over = std::get_if<handoff::ReceiverEnded>(&event)) {
    lose(over->error);
  }
}

// The text goes on meanwhile, so the answer will be for nothing. What the waiting cost keeps the next question back.
void RemoteProposer::Talk::wait_no_longer() {
  resumed_ = host_.surroundings.now();
  log::debug("{} is late with a guess", peer_.name);
  Guess nothing;
  nothing.seconds = seconds(resumed_ - asked_);
  answer(std::move(nothing));
}

// What the peer says of its reading is believed as far as it can be true.
void RemoteProposer::Talk::take(const handoff::Guesses& guesses) {
  asking_ = false;
  if (!waiting_) return;
  resumed_ = host_.surroundings.now();
  const double took = seconds(resumed_ - asked_);
  Guess guess;
  guess.tokens = guesses.tokens;
  guess.reading_seconds = std::min(took, guesses.reading_us / 1e6);
  guess.seconds = took - guess.reading_seconds;
  answer(std::move(guess));
}

void RemoteProposer::Talk::answer(Result<Guess> guess) {
  patience_.cancel();
  if (Done done = std::exchange(waiting_, nullptr)) done(std::move(guess));
}

void RemoteProposer::Talk::lose(const Error& error) {
  if (lost_) return;
  log::debug("no more guesses from {}: {}", peer_.name, error.to_string());
  // What the request does without is no error of its own: the place is told in words.
  lost_ = Error{error.code, std::format("{}: {}", peer_.name, error.to_string()), {}};
  cancel(error);
  answer(std::unexpected(*lost_));
}

void RemoteProposer::Talk::cancel(const Error& error) {
  const auto transfer = transfer_.lock();
  if (transfer == nullptr) return;
  transfer->machine.cancel(error);
  transfer->wake();
}

std::string RemoteProposer::Talk::why_silent() const {
  if (lost_) return lost_->message;
  if (!ready_) return std::format("{} has not read the prompt yet", peer_.name);
  const auto transfer = transfer_.lock();
  const bool connected = transfer != nullptr && transfer->machine.attached() && transfer->machine.generation() == 1;
  if (!connected) return std::format("{}: the connection was lost", peer_.name);
  return asking_ ? std::format("{} is late with a guess", peer_.name) : "";
}

void RemoteProposer::Talk::end() {
  waiting_ = nullptr;
  patience_.cancel();
  const Error over{ErrorCode::kCancelled, "the text needs no more guesses", {}};
  if (!lost_) cancel(lost_.emplace(over));
}

RemoteProposer::RemoteProposer(SessionHost& host, const handoff::Open& request, plan::NodeRef peer,
                               const engine::SamplerOptions& sampler, std::span<const Token> text, std::uint32_t most)
    : talk_(std::make_shared<Talk>(host, request, std::move(peer), sampler, text, most)) {}

RemoteProposer::~RemoteProposer() { talk_->end(); }

std::string RemoteProposer::where() const { return talk_->peer().name; }

std::string RemoteProposer::why_silent() const { return talk_->why_silent(); }

void RemoteProposer::push(Token token) { talk_->push(token); }

void RemoteProposer::propose(std::uint32_t most, Done done) { talk_->propose(most, std::move(done)); }

}  // namespace baton::node
