#include "node/exchange.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/log.h"
#include "node/peer_link.h"

namespace baton::node {

namespace {

constexpr auto kIdleCheckInterval = std::chrono::seconds(1);
constexpr auto kIdleGoodbyeTimeout = std::chrono::seconds(2);
constexpr auto kTickInterval = std::chrono::milliseconds(20);
// As long as a session tries to reach a node; a first dial that is not answered is not worth more either.
constexpr auto kDialTimeout = std::chrono::seconds(2);
constexpr auto kRedialDelay = std::chrono::milliseconds(100);
// Longer than a receiver tries to come back, so that cells are not held for one that never will.
constexpr auto kReceiverGrace = std::chrono::seconds(10);

template <typename Map>
auto values_of(const Map& map) {
  std::vector<typename Map::mapped_type> values;
  values.reserve(map.size());
  for (const auto& [id, value] : map) values.push_back(value);
  return values;
}

template <typename Event, typename Events>
bool has(const Events& events) {
  return std::ranges::any_of(events, [](const auto& event) { return std::holds_alternative<Event>(event); });
}

// Dialling again cannot change what these say.
bool is_final(ErrorCode code) {
  return code == ErrorCode::kRefused || code == ErrorCode::kNotFound || code == ErrorCode::kInvalidArgument ||
         code == ErrorCode::kUnsupported;
}

}  // namespace

void OutgoingTransfer::wake() const {
  if (link) link->wake();
}

void IncomingTransfer::wake() const {
  if (link) link->wake();
}

Exchange::Exchange(net::EventLoop& loop, net::Transport& transport, WidthsOf widths_of, OnOpen on_open,
                   Surroundings surroundings)
    : loop_(loop),
      transport_(transport),
      widths_of_(std::move(widths_of)),
      on_open_(std::move(on_open)),
      surroundings_(std::move(surroundings)),
      timer_(loop),
      idle_timer_(loop) {}

Exchange::~Exchange() {
  for (const auto& [id, transfer] : outgoing_) transfer->link.reset();
  for (const auto& [id, transfer] : incoming_) {
    transfer->link.reset();
    transfer->dial.reset();
  }
  for (const auto& link : links_) link->abandon();
}

void Exchange::adopt(std::shared_ptr<net::Connection> connection) {
  if (closing_) return;  // it closes as nobody keeps it
  start_link(std::move(connection));
}

void Exchange::drop(const net::Fingerprint& peer) {
  const auto links = links_;
  for (const auto& link : links) {
    if (link->peer() == peer) link->close();
  }
}

std::shared_ptr<PeerLink> Exchange::start_link(std::shared_ptr<net::Connection> connection) {
  auto link = std::make_shared<PeerLink>(*this, loop_, std::move(connection), surroundings_.now);
  links_.push_back(link);
  link->start();
  keep_looking_for_idle_links();
  return link;
}

std::shared_ptr<PeerLink> Exchange::link_to(const plan::NodeRef& peer) const {
  const auto found = std::ranges::find_if(
      links_, [&](const auto& link) { return link->ready() && link->peer().to_string() == peer.fingerprint; });
  return found == links_.end() ? nullptr : *found;
}

std::shared_ptr<IncomingTransfer> Exchange::open(std::shared_ptr<TransferOwner> owner, plan::NodeRef peer,
                                                 handoff::Receiver machine) {
  const handoff::TransferId id = machine.transfer();
  auto transfer = std::make_shared<IncomingTransfer>(std::move(machine), std::move(owner), std::move(peer), nullptr,
                                                     nullptr, TimePoint{}, false);
  incoming_[id] = transfer;
  connect(transfer, surroundings_.now());
  keep_ticking();
  return transfer;
}

void Exchange::connect(const std::shared_ptr<IncomingTransfer>& transfer, TimePoint time) {
  if (closing_ || transfer->link || transfer->dial || time < transfer->next_dial) return;
  if (const auto link = link_to(transfer->peer)) {
    attach(transfer, link, time);
    return;
  }
  if (transfer->peer.address.empty()) return;  // it has to come to us
  const auto address = net::PeerAddress::parse(transfer->peer.address + "#" + transfer->peer.fingerprint);
  if (!address) {
    loop_.post([transfer, error = address.error()] { transfer->owner->on_unreachable(*transfer, error); });
    transfer->next_dial = TimePoint::max();
    return;
  }
  transfer->dial = transport_.dial(*address, time + kDialTimeout, [this, transfer](auto dialled) {
    const auto finished_dial = std::move(transfer->dial);
    if (dialled) {
      // Transfers wait for the greeting; the link finds them in on_greeted().
      start_link(std::move(*dialled));
      transfer->next_dial = surroundings_.now() + kDialTimeout;
      return;
    }
    transfer->next_dial = surroundings_.now() + kRedialDelay;
    log::debug("cannot reach {}: {}", transfer->peer.address, dialled.error().to_string());
    if (transfer->was_connected && !is_final(dialled.error().code)) return;
    transfer->next_dial = TimePoint::max();
    transfer->owner->on_unreachable(*transfer, dialled.error());
  });
}

void Exchange::attach(const std::shared_ptr<IncomingTransfer>& transfer, const std::shared_ptr<PeerLink>& link,
                      TimePoint time) {
  transfer->link = link;
  transfer->was_connected = true;
  transfer->dial.reset();
  link->carry(transfer);
  transfer->machine.attach(time);
  transfer->wake();
}

void Exchange::on_greeted(const std::shared_ptr<PeerLink>& link) {
  const TimePoint time = surroundings_.now();
  for (const auto& transfer : values_of(incoming_)) {
    if (!transfer->link && transfer->peer.fingerprint == link->peer().to_string()) attach(transfer, link, time);
  }
  link->wake();
}

void Exchange::on_greeting_failed(const PeerLink& link, const Error& error) {
  for (const auto& transfer : values_of(incoming_)) {
    if (transfer->link || transfer->peer.fingerprint != link.peer().to_string()) continue;
    transfer->next_dial = TimePoint::max();
    transfer->owner->on_unreachable(*transfer, error);
  }
}

void Exchange::on_link_closed(const std::shared_ptr<PeerLink>& link) {
  const TimePoint time = surroundings_.now();
  std::erase(links_, link);
  if (closing_) return finish_closing();
  for (const auto& transfer : std::exchange(link->outgoing(), {})) {
    transfer->link.reset();
    transfer->machine.connection_lost(time);
  }
  for (const auto& transfer : std::exchange(link->incoming(), {})) {
    transfer->link.reset();
    transfer->machine.connection_lost(time);
    // Before a new connection is up, or a peer that is reached again at once would never be given up.
    deliver(transfer, transfer->machine.tick(time));
    if (transfer->machine.finished()) continue;
    transfer->next_dial = time;
    connect(transfer, time);
  }
}

void Exchange::on_message(const std::shared_ptr<PeerLink>& link, const handoff::Message& message) {
  const TimePoint time = surroundings_.now();
  switch (handoff::addressee(message.body)) {
    case handoff::Addressee::kConnection: return;
    case handoff::Addressee::kSender: {
      const auto found = outgoing_.find(message.transfer);
      if (found != outgoing_.end()) {
        const auto transfer = found->second;
        // Whoever knows a transfer's id is not yet its receiver: the key must be the one that the plan names.
        const handoff::Open& open = transfer->machine.open();
        if (open.plan.nodes[open.receiver].fingerprint != link->peer().to_string()) return;
        const auto events = transfer->machine.receive(message, time);
        // A word that breaks a connection breaks the one that it came by, which need not be the transfer's own.
        if (has<handoff::ConnectionLost>(events) && transfer->link != link) link->close();
        if (has<handoff::Attached>(events)) {
          if (transfer->link) transfer->link->drop(*transfer);
          transfer->link = link;
          link->carry(transfer);
        }
        deliver(transfer, events);
        return;
      }
      if (const auto* open = std::get_if<handoff::Open>(&message.body)) {
        on_open(link, message, *open);
        return;
      }
      break;
    }
    case handoff::Addressee::kReceiver: {
      const auto found = incoming_.find(message.transfer);
      if (found != incoming_.end()) {
        const auto transfer = found->second;
        if (transfer->link == link) deliver(transfer, transfer->machine.receive(message, time));
        return;
      }
      break;
    }
  }
  if (const auto answer = handoff::answer_unknown(message)) link->send(*answer);
}

void Exchange::on_open(const std::shared_ptr<PeerLink>& link, const handoff::Message& message,
                       const handoff::Open& open) {
  const auto refuse = [&](const Error& error) {
    log::warning("refusing a transfer to {}: {}", link->peer().to_string().substr(0, 12), error.to_string());
    link->send({message.transfer, message.generation, handoff::Refused{handoff::WireError::from(error)}});
  };
  if (closing_) return refuse({ErrorCode::kUnavailable, "the node is shutting down", {}});
  auto widths = widths_of_(open);
  if (!widths) return refuse(widths.error());
  auto machine = handoff::Sender::create(message, *std::move(widths), {.grace = kReceiverGrace}, surroundings_.now());
  if (!machine) return refuse(machine.error());
  const auto decision = on_open_(open, link->peer());
  if (!decision) return refuse(decision.error());
  auto transfer = std::make_shared<OutgoingTransfer>(std::move(*machine), decision->owner, link);
  outgoing_[message.transfer] = transfer;
  link->carry(transfer);
  keep_ticking();
  decision->on_opened(transfer);
  transfer->wake();
}

void Exchange::deliver(const std::shared_ptr<OutgoingTransfer>& transfer,
                       const std::vector<handoff::SenderEvent>& events) {
  for (const auto& event : events) {
    if (std::holds_alternative<handoff::ConnectionLost>(event)) {
      if (transfer->link) transfer->link->close();
    }
    transfer->owner->on_sender_event(*transfer, event);
  }
  transfer->wake();
}

void Exchange::deliver(const std::shared_ptr<IncomingTransfer>& transfer,
                       const std::vector<handoff::ReceiverEvent>& events) {
  for (const auto& event : events) {
    if (std::holds_alternative<handoff::ConnectionLost>(event)) {
      if (transfer->link) transfer->link->close();
    }
    transfer->owner->on_receiver_event(*transfer, event);
  }
  transfer->wake();
}

void Exchange::close(Duration patience, net::Task closed) {
  closing_ = true;
  closed_ = std::move(closed);
  timer_.cancel();
  idle_timer_.cancel();
  for (const auto& [id, transfer] : incoming_) transfer->dial.reset();
  for (const auto& link : links_) link->finish(patience);
  finish_closing();
}

void Exchange::finish_closing() {
  if (links_.empty()) loop_.post(std::exchange(closed_, {}));
}

void Exchange::keep_ticking() {
  if (!closing_ && !timer_.armed()) timer_.start(kTickInterval, [this] { tick(); });
}

void Exchange::keep_looking_for_idle_links() {
  if (closing_ || links_.empty() || idle_timer_.armed()) return;
  idle_timer_.start(Duration(kIdleCheckInterval), [this] { close_idle_links(); });
}

void Exchange::close_idle_links() {
  const TimePoint time = surroundings_.now();
  // A copy: a link that closes at once leaves the list.
  const auto links = links_;
  for (const auto& link : links) {
    if (!link->ready() || time - link->busy_at() < kIdleTimeout) continue;
    log::debug("closing the idle connection to {}", link->peer().to_string().substr(0, 12));
    link->finish(kIdleGoodbyeTimeout);
  }
  keep_looking_for_idle_links();
}

void Exchange::tick() {
  const TimePoint time = surroundings_.now();
  for (const auto& transfer : values_of(outgoing_)) {
    if (time >= transfer->machine.next_deadline()) deliver(transfer, transfer->machine.tick(time));
    if (!transfer->machine.finished()) continue;
    if (transfer->link) transfer->link->drop(*transfer);
    outgoing_.erase(transfer->machine.transfer());
  }
  for (const auto& transfer : values_of(incoming_)) {
    if (time >= transfer->machine.next_deadline()) deliver(transfer, transfer->machine.tick(time));
    if (transfer->machine.finished()) {
      if (transfer->link) transfer->link->drop(*transfer);
      transfer->dial.reset();
      incoming_.erase(transfer->machine.transfer());
    } else {
      connect(transfer, time);
    }
  }
  if (transfers() > 0) keep_ticking();
}

}  // namespace baton::node
