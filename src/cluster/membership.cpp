#include "cluster/membership.h"

#include <algorithm>
#include <chrono>
#include <format>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "net/interfaces.h"

namespace baton::cluster {

namespace {

std::int64_t system_clock_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::unexpected<Error> in_no_cluster(const Folder& folder) {
  return fail(
      ErrorCode::kNotFound,
      "this machine belongs to no cluster: begin one with 'baton up MODEL', or join one with 'baton join TOKEN'",
      folder.path().string());
}

}  // namespace

std::string_view peer_status_name(PeerStatus status) {
  switch (status) {
    case PeerStatus::kSelf: return "self";
    case PeerStatus::kAlive: return "alive";
    case PeerStatus::kSuspected: return "suspected";
    case PeerStatus::kDown: return "down";
    case PeerStatus::kIncompatible: return "incompatible";
  }
  return "unknown";
}

Result<void> Membership::found(const Folder& folder, const std::string& cluster_name, const std::string& node_name,
                               std::chrono::seconds certificate_life) {
  if (const auto list = TRY(folder.read_members())) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("this machine is in the cluster '{}' already: 'baton leave' takes it out", list->cluster_name()),
        folder.path().string());
  }
  const SigningKey& key = folder.identity().signing_key();
  const auto list = TRY(trust::MemberList::found(key, cluster_name, node_name));
  // The list last: with it the cluster exists.
  TRY(folder.write_certificate(TRY(trust::issue_certificate(list, key, folder.identity().fingerprint(),
                                                            system_clock_s(), certificate_life.count()))));
  return folder.write_members(list);
}

Result<std::unique_ptr<Membership>> Membership::create(net::EventLoop& loop, Folder folder, MembershipOptions options) {
  auto list = TRY(folder.read_members());
  if (!list) return in_no_cluster(folder);
  if (list->is_revoked(folder.identity().fingerprint())) {
    return fail(ErrorCode::kRefused,
                "this machine was revoked from its cluster: delete the folder to begin anew with another key",
                folder.path().string());
  }
  if (!options.wall_clock_s) options.wall_clock_s = system_clock_s;
  auto transport = TRY(net::Transport::create(loop, folder.identity(), options.emulate_link));
  std::unique_ptr<Membership> membership(
      new Membership(loop, std::move(folder), *std::move(list), std::move(options), std::move(transport)));
  TRY(membership->begin());
  return membership;
}

Membership::Membership(net::EventLoop& loop, Folder folder, trust::MemberList list, MembershipOptions options,
                       std::unique_ptr<net::Transport> transport)
    : loop_(loop),
      folder_(std::move(folder)),
      list_(std::move(list)),
      options_(std::move(options)),
      time_(options_.wall_clock_s(), now()),
      transport_(std::move(transport)),
      work_transport_(*transport_, [this](const net::Connection& connection) { return check_dialled(connection); }),
      timer_(loop),
      last_tick_(now()) {}

Membership::~Membership() {
  for (const auto& link : std::exchange(links_, {})) link->abandon();
}

Result<void> Membership::begin() {
  addresses_ = TRY(folder_.read_addresses());
  tokens_ = TRY(folder_.read_tokens());
  if (const auto der = TRY(folder_.read_certificate())) {
    const auto claims = net::read_certificate(*der);
    if (claims) time_.learn(claims->begin_s, now());
    // Even one that has run out says who this is.
    if (claims && claims->subject == identity().fingerprint()) TRY(use_certificate(*der));
  }
  listener_ = TRY(transport_->listen(options_.listen,
                                     {.is_trusted = [this](const net::Fingerprint& key) { return lets_in(key); },
                                      .protocols = {net::Protocol::kMembership, net::Protocol::kWork,
                                                    net::Protocol::kLinkProbe, net::Protocol::kModelFetch}},
                                     [this](auto connection) { on_accept(std::move(connection)); }));
  apply_list();
  refresh_state();
  // By the timer, which forgets it where this object ends before the loop runs.
  timer_.start(Duration::zero(), [this] { tick(); });
  return {};
}

std::vector<std::string> Membership::own_addresses() const {
  std::vector<std::string> addresses;
  const net::Endpoint& bound = listener_->endpoint();
  for (net::Endpoint endpoint : options_.advertise) {
    if (endpoint.port == 0) endpoint.port = bound.port;
    addresses.push_back(endpoint.to_string());
  }
  if (!addresses.empty()) return addresses;
  const bool everywhere = bound.host.empty() || bound.host == "::" || bound.host == "0.0.0.0";
  if (!everywhere) return {bound.to_string()};
  for (const std::string& host : net::interface_addresses()) {
    if (bound.host == "0.0.0.0" && host.find(':') != std::string::npos) continue;
    addresses.push_back(net::Endpoint{host, bound.port}.to_string());
  }
  if (addresses.empty()) addresses.push_back(net::Endpoint{"127.0.0.1", bound.port}.to_string());
  if (addresses.size() > kMaxAddresses) addresses.resize(kMaxAddresses);
  return addresses;
}

std::vector<net::Endpoint> Membership::addresses() const {
  std::vector<net::Endpoint> endpoints;
  for (const std::string& address : own_addresses()) {
    if (const auto endpoint = net::Endpoint::parse(address)) endpoints.push_back(*endpoint);
  }
  return endpoints;
}

std::string Membership::name_of(const net::Fingerprint& id) const {
  const trust::Member* member = list_.find(id);
  return member != nullptr ? member->name : id.to_string().substr(0, 12);
}

std::vector<PeerView> Membership::peers() const {
  static constexpr auto kSuspectedAfter = std::chrono::seconds(1);
  std::vector<PeerView> views;
  for (const auto& [id, member] : list_.members()) {
    PeerView view{.member = member};
    if (id == identity().fingerprint()) {
      view.status = PeerStatus::kSelf;
      view.software = own_software();
      if (options_.state) view.state = options_.state();
      view.state.addresses = own_addresses();
      view.address = listener_->endpoint().to_string();
      views.push_back(std::move(view));
      continue;
    }
    const Peer& peer = peers_.at(id);
    view.address = peer.address;
    view.software = peer.software;
    view.state = peer.view.state();
    if (const Link* link = peer.link()) {
      view.status = now() - link->heard_at() > kSuspectedAfter ? PeerStatus::kSuspected : PeerStatus::kAlive;
      view.round_trip_ms = peer.round_trip_ms;
    } else {
      view.status = peer.incompatible ? PeerStatus::kIncompatible : PeerStatus::kDown;
      view.problem = peer.problem;
      const auto known = addresses_.find(id);
      if (view.address.empty() && known != addresses_.end()) view.address = known->second.front().to_string();
    }
    views.push_back(std::move(view));
  }
  return views;
}

std::map<net::Fingerprint, double> Membership::round_trips_ms() const {
  std::map<net::Fingerprint, double> times;
  for (const auto& [id, peer] : peers_) {
    if (peer.link() != nullptr && peer.round_trip_ms > 0) times[id] = peer.round_trip_ms;
  }
  return times;
}

Result<trust::JoinToken> Membership::make_token(std::chrono::seconds life) {
  static constexpr std::size_t kMaxTokens = 64;
  if (!list_.is_admin(identity().fingerprint())) {
    return fail(ErrorCode::kRefused, "this node is no admin of the cluster, so it cannot let anybody in");
  }
  std::erase_if(tokens_, [&](const auto& entry) { return entry.second < time_s(); });
  if (tokens_.size() >= kMaxTokens) {
    return fail(ErrorCode::kNoCapacity, std::format("{} tokens wait to be used; some will expire", kMaxTokens));
  }
  trust::JoinToken token{.cluster = list_.cluster(),
                         .issuer = identity().fingerprint(),
                         .secret = {},
                         .expires_s = time_s() + life.count(),
                         .addresses = {}};
  fill_random(token.secret);
  for (const std::string& address : own_addresses()) {
    if (token.addresses.size() < trust::kMaxTokenAddresses)
      token.addresses.push_back(TRY(net::Endpoint::parse(address)));
  }
  tokens_[trust::node_id(token.key().public_key())] = token.expires_s;
  TRY(folder_.write_tokens(tokens_));
  return token;
}

Result<void> Membership::promote(std::string_view name) {
  const trust::Member member = TRY(list_.resolve(name));
  const auto statement = TRY(list_.promote(identity().signing_key(), member.id));
  log::info("{} is an admin now", member.name);
  return list_changed({statement}, nullptr);
}

Result<std::vector<trust::Member>> Membership::revoke(std::string_view name) {
  const trust::Member member = TRY(list_.resolve(name));
  if (member.id == identity().fingerprint()) {
    return fail(ErrorCode::kInvalidArgument, "this is the node itself: 'baton leave' takes it out of the cluster");
  }
  const auto statement = TRY(list_.revoke(identity().signing_key(), member.id));
  log::info("{} is revoked", member.name);
  TRY(list_changed({statement}, nullptr));
  return list_.let_in_by(member.id);
}

Result<void> Membership::leave() {
  const bool is_heard = std::ranges::any_of(peers_, [](const auto& entry) { return entry.second.link() != nullptr; });
  if (!peers_.empty() && !is_heard) {
    return fail(ErrorCode::kUnavailable, "no other node is connected, so nobody could be told that this one leaves");
  }
  const auto statement = TRY(list_.revoke(identity().signing_key(), identity().fingerprint()));
  // Told before it is written down: whoever finds the folder later must not find a member. So it does not matter here
  // whether the list could be written.
  static_cast<void>(list_changed({statement}, nullptr));
  return folder_.forget_cluster();
}

void Membership::shut_down(Duration patience, net::Task task) {
  closing_ = true;
  closed_ = std::move(task);
  timer_.cancel();
  listener_.reset();
  for (auto& [id, peer] : peers_) peer.dials.clear();
  for (const auto& link : links_) link->finish(patience);
  if (links_.empty()) loop_.post(std::exchange(closed_, {}));
}

}  // namespace baton::cluster
