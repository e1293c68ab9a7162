// The Membership's connections: who is let in, who is dialled, and how silence is noticed.
#include <algorithm>
#include <format>
#include <utility>

#include "base/log.h"
#include "cluster/membership.h"

namespace baton::cluster {

namespace {

constexpr auto kTickInterval = std::chrono::milliseconds(100);
constexpr auto kPingInterval = std::chrono::milliseconds(500);
// Four pings: with what a tick and a timer add, a dead peer is out within three seconds.
constexpr auto kSilence = std::chrono::seconds(2);
// This process itself was stopped or starved: what came meanwhile lies unread.
constexpr auto kOwnAbsence = std::chrono::seconds(1);
constexpr auto kGuestSilence = std::chrono::seconds(10);
constexpr auto kDialTimeout = std::chrono::seconds(1);
constexpr auto kRedialDelay = std::chrono::milliseconds(300);
constexpr auto kIncompatibleRedialDelay = std::chrono::seconds(5);
// Where both ends lose a connection they need not both dial.
constexpr auto kSecondDialsLater = std::chrono::milliseconds(150);
constexpr auto kGoodbye = std::chrono::milliseconds(500);
constexpr auto kRenewalRetry = std::chrono::seconds(2);
// A node has one, and for a moment two; after a bad network perhaps a third that has not been noticed to be dead.
constexpr std::ptrdiff_t kMaxLinksOfAPeer = 4;

}  // namespace

bool Membership::lets_in(const net::Fingerprint& key) const {
  if (out_ || closing_) return false;
  if (list_.contains(key)) return true;
  const auto token = tokens_.find(key);
  return token != tokens_.end() && token->second >= time_s();
}

Result<void> Membership::check_worker(const net::Connection& connection) const {
  TRY(trust::check_certificate(list_, connection.peer_certificate(), connection.peer_fingerprint(), time_s()));
  return {};
}

Result<void> Membership::check_dialled(const net::Connection& connection) const {
  const net::Fingerprint& peer = connection.peer_fingerprint();
  const bool is_stranger = !list_.contains(peer) && !list_.is_revoked(peer);
  // Its key, which the owner named, has been checked.
  if (is_stranger && std::ranges::contains(options_.linked_by_hand, peer)) return {};
  return check_worker(connection);
}

void Membership::on_accept(std::shared_ptr<net::Connection> connection) {
  const net::Fingerprint& peer = connection->peer_fingerprint();
  if (connection->protocol() == net::Protocol::kMembership) {
    const auto open = std::ranges::count_if(
        links_, [&](const auto& link) { return link->peer() == peer && link->dialled_by() == DialledBy::kPeer; });
    // How many commands run at once on this machine is its owner's affair.
    if (peer == identity().fingerprint() || open < kMaxLinksOfAPeer) {
      return adopt(std::move(connection), DialledBy::kPeer);
    }
    return log::warning("refusing {} one more connection: it has {}", name_of(peer), open);
  }
  if (const auto good = check_worker(*connection); !good) {
    log::warning("refusing work: {}", good.error().to_string());
    return;
  }
  const auto& taken = taker_of(connection->protocol());
  if (taken) taken(std::move(connection));
}

const Membership::OnConnection& Membership::taker_of(net::Protocol protocol) const {
  switch (protocol) {
    case net::Protocol::kLinkProbe: return options_.on_probe;
    case net::Protocol::kModelFetch: return options_.on_fetch;
    case net::Protocol::kWork:
    case net::Protocol::kMembership: break;
  }
  return options_.on_work;
}

void Membership::adopt(std::shared_ptr<net::Connection> connection, DialledBy dialled_by) {
  Link::Events events;
  events.greeted = [this](Link& link) { on_greeted(link); };
  events.heard = [this](Link& link, const Message& message) { on_heard(link, message); };
  events.closed = [this](Link& link, const Error& error) { on_closed(link, error); };
  links_.push_back(Link::start(loop_, std::move(connection), dialled_by, std::move(events)));
}

void Membership::on_greeted(Link& link) {
  const auto found = peers_.find(link.peer());
  if (found == peers_.end()) return;  // a guest: a token's bearer, or another process of this node
  Peer& peer = found->second;
  if (peer.links.empty()) log::info("{} is here", name_of(link.peer()));
  peer.dials.clear();
  peer.links.push_back(link.shared_from_this());
  // Of two connections one is enough; the node with the lower id decides which, so that they agree.
  if (identity().fingerprint() < link.peer()) {
    while (peer.links.size() > 1) {
      peer.links.front()->finish(kGoodbye);
      peer.links.erase(peer.links.begin());
    }
  }
  peer.software = link.software();
  peer.problem.clear();
  peer.incompatible = false;
  peer.view = {};
  peer.pings.clear();
  if (list_.is_admin(link.peer())) next_renewal_ = {};
  if (link.dialled_by() == DialledBy::kUs || peer.address.empty()) {
    peer.address = link.connection().peer_endpoint().to_string();
  }
  const std::uint64_t number = next_number_++;
  peer.pings[number] = now();
  link.say(Ping{number, time_s(), list_.digest()});
  link.say(log_.all());
  send_addresses(link);
}

void Membership::on_closed(Link& link, const Error& error) {
  std::erase_if(links_, [&](const auto& other) { return other.get() == &link; });
  if (closing_) {
    if (links_.empty() && closed_) loop_.post(std::exchange(closed_, {}));
    return;
  }
  const auto found = peers_.find(link.peer());
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  const bool was_used = std::erase_if(peer.links, [&](const auto& other) { return other.get() == &link; }) > 0;
  if (!peer.links.empty()) return;
  peer.problem = error.message;
  peer.incompatible = error.code == ErrorCode::kUnsupported;
  const TimePoint time = now();
  peer.next_dial = time + Duration(kRedialDelay);
  if (peer.incompatible) peer.next_dial = time + Duration(kIncompatibleRedialDelay);
  if (was_used) {
    log::info("{} is gone: {}", name_of(link.peer()), error.message);
    peer.next_dial = identity().fingerprint() < link.peer() ? time : time + Duration(kSecondDialsLater);
  }
}

void Membership::dial(const net::Fingerprint& id, Peer& peer) {
  const auto known = addresses_.find(id);
  if (known == addresses_.end()) return;
  // All at once: the fastest that answers is taken.
  peer.dials_open = known->second.size();
  for (const net::Endpoint& endpoint : known->second) {
    peer.dials.push_back(
        transport_->dial({endpoint, id}, net::Protocol::kMembership, now() + Duration(kDialTimeout),
                         [this, id, endpoint](auto dialled) { on_dialled(id, endpoint, std::move(dialled)); }));
  }
}

void Membership::on_dialled(const net::Fingerprint& id, const net::Endpoint& endpoint,
                            Result<std::shared_ptr<net::Connection>> dialled) {
  Peer& peer = peers_.at(id);
  --peer.dials_open;
  if (dialled) {
    const auto others = std::exchange(peer.dials, {});
    peer.address = endpoint.to_string();
    // The greeting must come, or the connection closes and all begins again.
    peer.next_dial = now() + Duration(kSilence);
    adopt(std::move(*dialled), DialledBy::kUs);
    return;
  }
  peer.incompatible = dialled.error().code == ErrorCode::kUnsupported;
  peer.problem = dialled.error().code == ErrorCode::kRefused
                     ? std::format("{}: it does not let this node in", endpoint.to_string())
                     : dialled.error().to_string();
  if (peer.dials_open > 0) return;
  const auto finished = std::exchange(peer.dials, {});
  peer.next_dial = now() + (peer.incompatible ? Duration(kIncompatibleRedialDelay) : Duration(kRedialDelay));
}

void Membership::tell_all(const Message& message, const Link* except) {
  for (const auto& [id, peer] : peers_) {
    Link* link = peer.link();
    if (link != nullptr && link != except) link->say(message);
  }
}

void Membership::tick() {
  if (closing_) return;
  const TimePoint time = now();
  if (time - last_tick_ > Duration(kOwnAbsence)) {
    for (const auto& link : links_) link->excuse_silence(time);
  }
  last_tick_ = time;
  if (!out_) {
    watch_links(time);
    if (time >= next_ping_) {
      next_ping_ = time + Duration(kPingInterval);
      // Again and again: the monotonic clock stands still while the machine sleeps.
      time_.learn(options_.wall_clock_s(), time);
      ping_links(time);
      refresh_state();
    }
    renew_certificate(time);
    if (std::exchange(addresses_changed_, false)) {
      if (const auto saved = folder_.write_addresses(addresses_); !saved) log::warning("{}", saved.error().to_string());
    }
  }
  timer_.start(Duration(kTickInterval), [this] { tick(); });
}

void Membership::watch_links(TimePoint time) {
  const auto links = links_;
  for (const auto& link : links) {
    const bool guest = !peers_.contains(link->peer());
    if (time - link->heard_at() > (guest ? Duration(kGuestSilence) : Duration(kSilence))) link->close();
  }
  for (auto& [id, peer] : peers_) {
    if (peer.links.empty() && peer.dials.empty() && time >= peer.next_dial) dial(id, peer);
  }
}

void Membership::ping_links(TimePoint time) {
  const Sha256 digest = list_.digest();
  for (auto& [id, peer] : peers_) {
    static constexpr std::size_t kPingsUnderWay = 8;
    while (peer.pings.size() >= kPingsUnderWay) peer.pings.erase(peer.pings.begin());
    for (const auto& link : peer.links) {
      const std::uint64_t number = next_number_++;
      peer.pings[number] = time;
      link->say(Ping{number, time_s(), digest});
    }
  }
}

void Membership::refresh_state() {
  NodeState state = options_.state ? options_.state() : NodeState{};
  state.addresses = own_addresses();
  const State changed = log_.update(state);
  if (!changed.sections.empty()) tell_all(changed);
}

bool Membership::certificate_is_good() const {
  if (!certificate_ || certificate_->end_s < time_s()) return false;
  return certificate_->issuer == identity().fingerprint() || list_.is_admin(certificate_->issuer);
}

void Membership::renew_certificate(TimePoint time) {
  const bool half_spent =
      certificate_ && time_s() >= certificate_->begin_s + (certificate_->end_s - certificate_->begin_s) / 2;
  if (time < next_renewal_ || (certificate_is_good() && !half_spent)) return;
  next_renewal_ = time + Duration(kRenewalRetry);
  if (list_.is_admin(identity().fingerprint())) {
    auto der = trust::issue_certificate(list_, identity().signing_key(), identity().fingerprint(), time_s(),
                                        options_.certificate_life.count());
    if (der) return on_certificate({std::move(*der)});
    log::warning("cannot renew this node's certificate: {}", der.error().to_string());
    return;
  }
  // Another one each time, so that one that does not answer is not the only one asked.
  auto peer = peers_.upper_bound(asked_last_);
  for (std::size_t i = 0; i < peers_.size(); ++i, ++peer) {
    if (peer == peers_.end()) peer = peers_.begin();
    Link* link = peer->second.link();
    if (link == nullptr || !list_.is_admin(peer->first)) continue;
    asked_last_ = peer->first;
    return link->say(Renew{});
  }
  if (!certificate_is_good()) log::warning("this node's certificate has run out, and no admin is here to renew it");
}

Result<void> Membership::use_certificate(ByteSpan der) {
  TRY(transport_->present(TRY(identity().with_certificate(der))));
  certificate_ = TRY(net::read_certificate(der));
  return {};
}

}  // namespace baton::cluster
