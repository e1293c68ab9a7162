// The switchboard between connections and transfers: dials, greets, routes messages to the state machines of handoff
// and their frames to the wire, keeps their deadlines, and reconnects. Everything here lives on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "handoff/receiver.h"
#include "handoff/sender.h"
#include "net/event_loop.h"
#include "net/transport.h"
#include "node/surroundings.h"
#include "plan/plan.h"

namespace baton::node {

class PeerLink;
class TransferOwner;

// The producing end of a transfer. After any call to `machine`, call wake().
struct OutgoingTransfer {
  handoff::Sender machine;
  std::shared_ptr<TransferOwner> owner;
  std::shared_ptr<PeerLink> link;  // null while no connection carries it

  // What the machine has to say goes out, now or when a connection is there.
  void wake() const;
};

// The consuming end. After any call to `machine`, call wake().
struct IncomingTransfer {
  handoff::Receiver machine;
  std::shared_ptr<TransferOwner> owner;
  plan::NodeRef peer;
  std::shared_ptr<PeerLink> link;
  std::unique_ptr<net::Dial> dial;
  TimePoint next_dial{};
  bool was_connected = false;

  void wake() const;
};

// Whose work a transfer carries; it lives as long as the transfer. Called on the loop's thread, never from inside a
// call to the Exchange.
class TransferOwner {
 public:
  virtual ~TransferOwner() = default;
  virtual void on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) = 0;
  virtual void on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) = 0;
  // The peer cannot be reached at all, or refuses us. A connection that was there and is lost is dialled again instead.
  virtual void on_unreachable(IncomingTransfer& transfer, const Error& error) = 0;
  // What must live on for a borrowed payload to stay readable.
  virtual std::shared_ptr<const void> keep_alive(ByteSpan payload) = 0;
};

class Exchange {
 public:
  // A connection that carries no transfer for so long is closed; who needs it again dials again.
  static constexpr auto kIdleTimeout = std::chrono::seconds(60);

  // A peer opens a transfer: gives whose work it is, or why not. The Sender is then bound to that owner, which accepts
  // it in on_opened.
  struct OpenDecision {
    std::shared_ptr<TransferOwner> owner;
    std::function<void(const std::shared_ptr<OutgoingTransfer>&)> on_opened;
  };
  using OnOpen = std::function<Result<OpenDecision>(const handoff::Open& open, const net::Fingerprint& peer)>;

  // The widths of the model that an Open names; an error refuses it.
  using WidthsOf = std::function<Result<handoff::Widths>(const handoff::Open& open)>;

  Exchange(net::EventLoop& loop, net::Transport& transport, WidthsOf widths_of, OnOpen on_open,
           Surroundings surroundings = {});
  ~Exchange();

  // Takes over a connection that a peer has made to us. After close() it ends at once.
  void adopt(std::shared_ptr<net::Connection> connection);

  // Closes every connection to a peer. What they carried is lost, unless the peer is reached again.
  void drop(const net::Fingerprint& peer);

  // Opens a transfer from `peer`, over a connection there is or a new one.
  std::shared_ptr<IncomingTransfer> open(std::shared_ptr<TransferOwner> owner, plan::NodeRef peer,
                                         handoff::Receiver machine);

  // Says what the transfers still have to say, ends every connection in good order, and calls back when the peers have
  // closed theirs too, at the latest after `patience`. Nothing is heard, dialled or opened any more.
  void close(Duration patience, net::Task closed);

  // Transfers that are not finished, and connections that are open. For tests of leaks.
  std::size_t transfers() const { return outgoing_.size() + incoming_.size(); }
  std::size_t connections() const { return links_.size(); }

 private:
  friend class PeerLink;

  std::shared_ptr<PeerLink> start_link(std::shared_ptr<net::Connection> connection);
  std::shared_ptr<PeerLink> link_to(const plan::NodeRef& peer) const;
  void connect(const std::shared_ptr<IncomingTransfer>& transfer, TimePoint now);
  void attach(const std::shared_ptr<IncomingTransfer>& transfer, const std::shared_ptr<PeerLink>& link, TimePoint now);
  void on_greeted(const std::shared_ptr<PeerLink>& link);
  void on_greeting_failed(const PeerLink& link, const Error& error);
  void on_link_closed(const std::shared_ptr<PeerLink>& link);
  void on_message(const std::shared_ptr<PeerLink>& link, const handoff::Message& message);
  void on_open(const std::shared_ptr<PeerLink>& link, const handoff::Message& message, const handoff::Open& open);
  void deliver(const std::shared_ptr<OutgoingTransfer>& transfer, const std::vector<handoff::SenderEvent>& events);
  void deliver(const std::shared_ptr<IncomingTransfer>& transfer, const std::vector<handoff::ReceiverEvent>& events);
  void keep_ticking();
  void tick();
  void keep_looking_for_idle_links();
  void close_idle_links();
  void finish_closing();

  net::EventLoop& loop_;
  net::Transport& transport_;
  WidthsOf widths_of_;
  OnOpen on_open_;
  Surroundings surroundings_;
  net::Timer timer_;
  net::Timer idle_timer_;
  bool closing_ = false;
  net::Task closed_;
  std::vector<std::shared_ptr<PeerLink>> links_;
  std::unordered_map<handoff::TransferId, std::shared_ptr<OutgoingTransfer>, handoff::IdHash> outgoing_;
  std::unordered_map<handoff::TransferId, std::shared_ptr<IncomingTransfer>, handoff::IdHash> incoming_;
};

}  // namespace baton::node
