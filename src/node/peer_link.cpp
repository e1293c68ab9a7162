#include "node/peer_link.h"

#include <algorithm>

#include "base/log.h"

namespace baton::node {

namespace {

// A peer that floods us with messages of unknown transfers gets no more answers than this at a time.
constexpr std::size_t kMaxQueuedAnswers = 64;
constexpr auto kGreetingTimeout = std::chrono::seconds(5);
// A peer that we do not understand hears our greeting all the same, and has so long to end the connection.
constexpr auto kMisunderstoodPatience = std::chrono::seconds(1);

net::OutFrame to_frame(handoff::OutgoingFrame&& frame, std::shared_ptr<const void> keep_alive) {
  if (frame.payload.empty()) return net::OutFrame::owning(std::move(frame.head));
  net::OutFrame out;
  out.set_header(frame.head);
  out.payload[0] = frame.payload;
  out.keep_alive = std::move(keep_alive);
  return out;
}

}  // namespace

PeerLink::PeerLink(Exchange& exchange, net::EventLoop& loop, std::shared_ptr<net::Connection> connection,
                   std::function<TimePoint()> now)
    : exchange_(&exchange),
      connection_(std::move(connection)),
      now_(std::move(now)),
      busy_at_(now_()),
      greeting_timer_(loop) {
  control_.push_back(handoff::encode(
      {.transfer = {}, .generation = 0, .body = handoff::Hello{.software = "baton", .extensions = {}}}));
}

void PeerLink::start() {
  connection_->start(shared_from_this());
  greeting_timer_.start(Duration(kGreetingTimeout), [this] { close(); });
}

void PeerLink::abandon() {
  exchange_ = nullptr;
  outgoing_.clear();
  incoming_.clear();
  connection_->close();
}

void PeerLink::finish(Duration patience) {
  finishing_ = true;
  connection_->finish(patience);
}

void PeerLink::send(const handoff::Message& message) {
  if (control_.size() >= kMaxQueuedAnswers) return;
  control_.push_back(handoff::encode(message));
  wake();
}

void PeerLink::carry(std::shared_ptr<OutgoingTransfer> transfer) { outgoing_.push_back(std::move(transfer)); }
void PeerLink::carry(std::shared_ptr<IncomingTransfer> transfer) { incoming_.push_back(std::move(transfer)); }

void PeerLink::drop(const OutgoingTransfer& transfer) {
  busy_at_ = now_();
  std::erase_if(outgoing_, [&](const auto& carried) { return carried.get() == &transfer; });
}

void PeerLink::drop(const IncomingTransfer& transfer) {
  busy_at_ = now_();
  std::erase_if(incoming_, [&](const auto& carried) { return carried.get() == &transfer; });
}

void PeerLink::on_frame(ByteSpan frame) {
  if (exchange_ == nullptr || closed_) return;
  if (const auto taken = take_frame(frame); !taken) {
    log::warning("closing the connection to {}: {}", peer().to_string().substr(0, 12), taken.error().to_string());
    if (greeted_) return close();
    greeting_timer_.cancel();
    finish(kMisunderstoodPatience);
    exchange_->on_greeting_failed(*this, taken.error());
  }
}

Result<void> PeerLink::take_frame(ByteSpan frame) {
  const auto message = TRY(handoff::decode(frame));
  const TimePoint time = now_();
  for (const auto& transfer : incoming_) transfer->machine.note_bytes(time);
  if (const auto* hello = std::get_if<handoff::Hello>(&message.body)) {
    if (greeted_) return fail(ErrorCode::kProtocol, "the peer greets twice");
    TRY(handoff::negotiate(handoff::Hello{.software = "baton", .extensions = {}}, *hello));
    greeted_ = true;
    greeting_timer_.cancel();
    exchange_->on_greeted(shared_from_this());
    return {};
  }
  if (!greeted_) return fail(ErrorCode::kProtocol, "the peer speaks before it greets");
  exchange_->on_message(shared_from_this(), message);
  return {};
}

std::optional<net::OutFrame> PeerLink::next_frame() {
  if (!control_.empty()) {
    net::OutFrame frame = net::OutFrame::owning(std::move(control_.front()));
    control_.pop_front();
    return frame;
  }
  if (!greeted_) return std::nullopt;
  const TimePoint time = now_();
  for (const auto& transfer : incoming_) {
    if (auto frame = transfer->machine.next(time)) return to_frame(std::move(*frame), nullptr);
  }
  for (std::size_t i = 0; i < outgoing_.size(); ++i) {
    const std::size_t index = (turn_ + i) % outgoing_.size();
    OutgoingTransfer& transfer = *outgoing_[index];
    auto frame = transfer.machine.next(time);
    if (!frame) continue;
    turn_ = index + 1;
    auto keep_alive = frame->payload.empty() ? nullptr : transfer.owner->keep_alive(frame->payload);
    return to_frame(std::move(*frame), std::move(keep_alive));
  }
  return std::nullopt;
}

void PeerLink::on_closed(const Error& error) {
  closed_ = true;
  greeting_timer_.cancel();
  if (exchange_ == nullptr) return;
  log::debug("connection to {} closed: {}", peer().to_string().substr(0, 12), error.to_string());
  exchange_->on_link_closed(shared_from_this());
}

}  // namespace baton::node
