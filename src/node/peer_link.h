// One connection to a peer: greets it, reads its messages and asks the transfers on it for their next frames.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "handoff/messages.h"
#include "net/connection.h"
#include "node/exchange.h"

namespace baton::node {

class PeerLink : public net::ConnectionHandler, public std::enable_shared_from_this<PeerLink> {
 public:
  PeerLink(Exchange& exchange, net::EventLoop& loop, std::shared_ptr<net::Connection> connection,
           std::function<TimePoint()> now);

  void start();
  // The Exchange is going away: say nothing more to it.
  void abandon();
  void close() { connection_->close(); }
  // As close(), but what the transfers have to say goes out first.
  void finish(Duration patience);
  void wake() { connection_->wake(); }

  const net::Fingerprint& peer() const { return connection_->peer_fingerprint(); }
  // Both sides have agreed on a version, and the connection is up.
  bool ready() const { return greeted_ && !closed_ && !finishing_; }
  // When it last carried a transfer: now, while it does.
  TimePoint busy_at() const { return outgoing_.empty() && incoming_.empty() ? busy_at_ : now_(); }

  void send(const handoff::Message& message);
  void carry(std::shared_ptr<OutgoingTransfer> transfer);
  void carry(std::shared_ptr<IncomingTransfer> transfer);
  void drop(const OutgoingTransfer& transfer);
  void drop(const IncomingTransfer& transfer);
  std::vector<std::shared_ptr<OutgoingTransfer>>& outgoing() { return outgoing_; }
  std::vector<std::shared_ptr<IncomingTransfer>>& incoming() { return incoming_; }

  void on_frame(ByteSpan frame) override;
  std::optional<net::OutFrame> next_frame() override;
  void on_closed(const Error& error) override;

 private:
  Result<void> take_frame(ByteSpan frame);

  Exchange* exchange_;
  std::shared_ptr<net::Connection> connection_;
  const std::function<TimePoint()> now_;
  TimePoint busy_at_;
  net::Timer greeting_timer_;
  bool greeted_ = false;
  bool finishing_ = false;
  bool closed_ = false;
  std::deque<Bytes> control_;  // messages of no transfer: Hello and answers to unknown ones
  std::vector<std::shared_ptr<OutgoingTransfer>> outgoing_;
  std::vector<std::shared_ptr<IncomingTransfer>> incoming_;
  std::size_t turn_ = 0;  // which outgoing transfer is asked first
};

}  // namespace baton::node
