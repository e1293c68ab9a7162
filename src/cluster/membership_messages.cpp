// What the Membership hears, and what follows.
#include <algorithm>
#include <format>
#include <utility>

#include "base/log.h"
#include "cluster/membership.h"

namespace baton::cluster {

namespace {

constexpr auto kRefusalTimeout = std::chrono::seconds(2);
constexpr auto kCutOffGoodbye = std::chrono::milliseconds(300);
constexpr auto kListInterval = std::chrono::seconds(1);
constexpr std::size_t kListBytesAtOnce = 128 * 1024;
constexpr std::size_t kListPageBytes = 2 << 20;
// Addresses of a node that only others know, beside those that it has given itself: a member may make them up.
constexpr std::size_t kMaxHearsay = 4;

// In order, in pieces that fit into a frame.
std::vector<Statements> pieces_of(const std::vector<trust::Statement>& statements) {
  std::vector<Statements> pieces(1);
  std::size_t bytes = 0;
  for (const trust::Statement& statement : statements) {
    const std::size_t size = statement.bytes().size();
    if (!pieces.back().statements.empty() &&
        (bytes + size > kListBytesAtOnce || pieces.back().statements.size() >= kMaxStatementsAtOnce)) {
      pieces.emplace_back();
      bytes = 0;
    }
    bytes += size;
    pieces.back().statements.emplace_back(statement.bytes().begin(), statement.bytes().end());
  }
  return pieces;
}

// The link's own time and not that of what was on it: shorter counts at once, longer only when it stays.
double settle(double known_ms, double measured_ms) {
  constexpr double kRise = 0.1;
  return known_ms == 0 || measured_ms < known_ms ? measured_ms : known_ms + kRise * (measured_ms - known_ms);
}

}  // namespace

void Membership::on_heard(Link& link, const Message& message) {
  if (link.peer() == identity().fingerprint()) {
    const auto* ask = std::get_if<Ask>(&message);
    if (ask == nullptr || !on_ask_) return link.close();
    link.say(Answer{on_ask_(ask->json)});
    return;
  }
  // What is still said to a node that has left would write its cluster into the folder again.
  if (out_) return;
  if (peers_.contains(link.peer())) return on_heard_from_member(link, message);
  const auto* join = std::get_if<Join>(&message);
  if (join == nullptr || !tokens_.contains(link.peer())) return link.close();
  on_join(link, *join);
}

void Membership::on_heard_from_member(Link& link, const Message& message) {
  const auto follow = [&](Result<void> done) {
    if (done) return;
    log::warning("{}: {}", name_of(link.peer()), done.error().to_string());
    link.close();
  };
  if (const auto* ping = std::get_if<Ping>(&message)) {
    on_ping(link, *ping);
  } else if (const auto* pong = std::get_if<Pong>(&message)) {
    Peer& peer = peers_.at(link.peer());
    const auto sent = peer.pings.find(pong->number);
    if (sent == peer.pings.end()) return;
    peer.round_trip_ms = settle(peer.round_trip_ms, seconds(now() - sent->second) * 1e3);
    peer.pings.erase(sent);
  } else if (const auto* statements = std::get_if<Statements>(&message)) {
    follow(on_statements(link, *statements));
  } else if (const auto* state = std::get_if<State>(&message)) {
    on_state(link, *state);
  } else if (const auto* addresses = std::get_if<Addresses>(&message)) {
    on_addresses(*addresses);
  } else if (std::holds_alternative<Renew>(message)) {
    auto der = trust::issue_certificate(list_, identity().signing_key(), link.peer(), time_s(),
                                        options_.certificate_life.count());
    if (der) return link.say(Certificate{std::move(*der)});
    link.say(Refused{std::move(der).error()});
  } else if (const auto* certificate = std::get_if<Certificate>(&message)) {
    on_certificate(*certificate);
  } else if (const auto* refused = std::get_if<Refused>(&message)) {
    log::debug("{} refused: {}", name_of(link.peer()), refused->error.message);
  } else {
    follow(fail(ErrorCode::kProtocol, "the peer says what a member has no reason to say"));
  }
}

void Membership::on_ping(Link& link, const Ping& ping) {
  link.say(Pong{ping.number});
  // An admin may end certificates and tokens anyhow; a plain member must not, by saying that it is late.
  if (list_.is_admin(link.peer())) time_.learn(ping.time_s, now());
  if (ping.list == list_.digest()) return;
  Peer& peer = peers_.at(link.peer());
  if (now() - peer.list_sent_at < Duration(kListInterval)) return;
  peer.list_sent_at = now();
  send_list_page(link, peer);
}

void Membership::send_list(Link& link) {
  for (Statements& piece : pieces_of(list_.statements())) link.say(std::move(piece));
}

// A list that a thief has made long would not fit into what may wait for a peer: so a part each time, round and round.
void Membership::send_list_page(Link& link, Peer& peer) {
  const auto all = list_.statements();
  if (peer.list_sent >= all.size()) peer.list_sent = 0;
  std::vector<trust::Statement> page;
  for (std::size_t bytes = 0; peer.list_sent < all.size() && bytes < kListPageBytes; ++peer.list_sent) {
    bytes += all[peer.list_sent].bytes().size();
    page.push_back(all[peer.list_sent]);
  }
  for (Statements& piece : pieces_of(page)) link.say(std::move(piece));
}

void Membership::send_addresses(Link& link) {
  Addresses addresses{addresses_};
  std::erase_if(addresses.of, [&](const auto& entry) { return !list_.contains(entry.first); });
  link.say(std::move(addresses));
}

Result<void> Membership::on_statements(Link& link, const Statements& statements) {
  std::vector<trust::Statement> unknown;
  for (const Bytes& bytes : statements.statements) {
    if (!list_.knows(sha256(bytes))) unknown.push_back(TRY(trust::Statement::decode(bytes)));
  }
  // Also where a later statement cannot be taken, the earlier ones count.
  const auto merged = list_.merge(unknown);
  std::erase_if(unknown, [&](const trust::Statement& statement) { return !list_.knows(statement.digest()); });
  // Where it cannot be written down, which is logged, the peer is not to blame.
  if (!unknown.empty()) static_cast<void>(list_changed(unknown, &link));
  TRY(merged);
  return {};
}

Result<void> Membership::list_changed(const std::vector<trust::Statement>& news, const Link* from) {
  auto saved = folder_.write_members(list_);
  if (!saved) log::error("the member list could not be written down: {}", saved.error().to_string());
  for (Statements& piece : pieces_of(news)) tell_all(std::move(piece), from);
  apply_list();
  return saved;
}

void Membership::apply_list() {
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    const net::Fingerprint id = peer->first;
    if (list_.contains(id)) {
      ++peer;
      continue;
    }
    // It may hear why; it is not heard any more.
    peer = peers_.erase(peer);
    addresses_.erase(id);
    for (const auto& link : links_) {
      if (link->peer() == id) link->finish(kCutOffGoodbye);
    }
    log::info("{} is no member any more", id.to_string().substr(0, 12));
    if (options_.on_cut_off) loop_.post([cut_off = options_.on_cut_off, id] { cut_off(id); });
  }
  const net::Fingerprint& self = identity().fingerprint();
  for (const auto& [id, member] : list_.members()) {
    if (id != self) peers_.try_emplace(id);
  }
  next_renewal_ = {};
  if (out_ || list_.contains(self)) return;
  out_ = true;
  const Error error{ErrorCode::kRefused,
                    "this machine is no member of its cluster any more: it was revoked, or has left",
                    folder_.path().string()};
  if (options_.on_out) loop_.post([on_out = options_.on_out, error] { on_out(error); });
}

void Membership::note_addresses(const net::Fingerprint& id, std::vector<net::Endpoint> endpoints) {
  if (id == identity().fingerprint() || !list_.contains(id) || endpoints.empty()) return;
  if (endpoints.size() > kMaxAddresses) endpoints.resize(kMaxAddresses);
  std::vector<net::Endpoint>& known = addresses_[id];
  if (known == endpoints) return;
  known = std::move(endpoints);
  addresses_changed_ = true;
}

void Membership::on_addresses(const Addresses& addresses) {
  for (const auto& [id, endpoints] : addresses.of) {
    const auto peer = peers_.find(id);
    // What a node says of itself, while it is here, counts more.
    if (peer == peers_.end() || !peer->second.links.empty()) continue;
    std::vector<net::Endpoint> all;
    if (const auto known = addresses_.find(id); known != addresses_.end()) all = known->second;
    std::size_t& hearsay = peer->second.hearsay;
    all.resize(std::min(all.size(), kMaxAddresses - kMaxHearsay + hearsay));
    for (const net::Endpoint& endpoint : endpoints) {
      if (std::ranges::find(all, endpoint) != all.end()) continue;
      if (hearsay == kMaxHearsay) {
        all.erase(all.end() - static_cast<std::ptrdiff_t>(kMaxHearsay));
      } else {
        ++hearsay;
      }
      all.push_back(endpoint);
    }
    note_addresses(id, std::move(all));
  }
}

void Membership::hear_of(const net::Fingerprint& id, std::vector<net::Endpoint> endpoints) {
  on_addresses({.of = {{id, std::move(endpoints)}}});
}

void Membership::on_state(Link& link, const State& state) {
  Peer& peer = peers_.at(link.peer());
  if (const auto taken = peer.view.take(state); !taken) {
    log::warning("{}: {}", name_of(link.peer()), taken.error().to_string());
    return link.close();
  }
  std::vector<net::Endpoint> endpoints;
  for (const std::string& address : peer.view.state().addresses) {
    if (const auto endpoint = net::Endpoint::parse(address)) endpoints.push_back(*endpoint);
  }
  if (!endpoints.empty()) peer.hearsay = 0;
  note_addresses(link.peer(), std::move(endpoints));
}

void Membership::on_join(Link& link, const Join& join) {
  const net::Fingerprint token = link.peer();
  const auto enrol = [&]() -> Result<trust::Statement> {
    // It may have been good when the connection began.
    if (!lets_in(token)) return fail(ErrorCode::kRefused, "the token has expired: make a new one with 'baton token'");
    if (!proves_join(join, token)) return fail(ErrorCode::kRefused, "the key that would join is not proved");
    TRY(trust::check_name(join.name));
    // Used up before anything follows from it.
    tokens_.erase(token);
    TRY(folder_.write_tokens(tokens_));
    return list_.enrol(identity().signing_key(), join.key, join.name);
  };
  const auto statement = enrol();
  if (!statement) {
    log::warning("a node could not join: {}", statement.error().to_string());
    link.say(Refused{statement.error()});
    return link.finish(kRefusalTimeout);
  }
  const net::Fingerprint id = trust::node_id(join.key);
  log::info("{} joins: {}", name_of(id), id.to_string().substr(0, 12));
  static_cast<void>(list_changed({*statement}, nullptr));
  auto certificate =
      trust::issue_certificate(list_, identity().signing_key(), id, time_s(), options_.certificate_life.count());
  send_list(link);
  Addresses addresses{addresses_};
  addresses.of[identity().fingerprint()] = this->addresses();
  link.say(std::move(addresses));
  if (certificate) {
    link.say(Certificate{std::move(*certificate)});
  } else {
    link.say(Refused{std::move(certificate).error()});
  }
  link.finish(kRefusalTimeout);
}

void Membership::on_certificate(const Certificate& certificate) {
  const auto claims = trust::check_certificate(list_, certificate.der, identity().fingerprint(), time_s());
  if (!claims) {
    return log::warning("a new certificate is not good: {}; has it run out, then this machine's clock is fast: set it",
                        claims.error().to_string());
  }
  if (certificate_is_good() && claims->end_s < certificate_->end_s) return;
  time_.learn(claims->begin_s, now());
  const auto used = use_certificate(certificate.der);
  const auto saved = used ? folder_.write_certificate(certificate.der) : used;
  if (!saved) return log::warning("a new certificate cannot be used: {}", saved.error().to_string());
  log::debug("a new certificate, for {} s", claims->end_s - claims->begin_s);
}

}  // namespace baton::cluster
