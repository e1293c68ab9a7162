#include "cluster/link_probes.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/number_text.h"

namespace baton::cluster {

namespace {

constexpr auto kProbesTickInterval = std::chrono::milliseconds(250);
constexpr auto kProbeDialTimeout = std::chrono::seconds(2);
constexpr auto kRetry = std::chrono::seconds(5);
// One of two nodes measures for both, the one with the lower id; the other only after so long without a result.
constexpr auto kOthersTurn = std::chrono::seconds(20);
// Nobody would ever share work over a link of which nothing is known: after so long it is measured beside other work.
constexpr auto kRatesTimeout = std::chrono::seconds(3);

}  // namespace

std::optional<net::Endpoint> work_endpoint(const NodeState& told, const std::string& met_at) {
  const auto met = net::Endpoint::parse(met_at);
  std::optional<net::Endpoint> chosen;
  for (const std::string& text : told.addresses) {
    const auto address = net::Endpoint::parse(text);
    if (!address) continue;
    if (!chosen) chosen = *address;
    // Where it called from is on the network that both are on.
    if (met && address->host == met->host) chosen = *address;
    if (met && *address == *met) break;
  }
  if (!chosen && met && told.addresses.empty()) return *met;
  return chosen;
}

LinkProbes::LinkProbes(net::EventLoop& loop, std::function<bool()> is_idle)
    : loop_(loop), is_idle_(std::move(is_idle)), timer_(loop) {}

LinkProbes::~LinkProbes() {
  if (probe_) probe_->abandon();
  for (const auto& weak : answered_) {
    if (const auto probe = weak.lock()) probe->abandon();
  }
}

void LinkProbes::watch(Membership& membership) {
  membership_ = &membership;
  timer_.start(Duration(kProbesTickInterval), [this] { tick(); });
}

void LinkProbes::tick() {
  timer_.start(Duration(kProbesTickInterval), [this] { tick(); });
  std::erase_if(answered_, [](const auto& probe) { return probe.expired(); });
  const net::Fingerprint& self = membership_->identity().fingerprint();
  const TimePoint time = now();
  std::map<net::Fingerprint, net::Endpoint> alive;
  for (const PeerView& view : membership_->peers()) {
    const auto endpoint = work_endpoint(view.state, view.address);
    // Before it has said where it listens, it is known by the port it called from at most.
    const bool has_told = !view.state.addresses.empty();
    if (view.status == PeerStatus::kAlive && endpoint && has_told) alive.emplace(view.member.id, *endpoint);
  }
  std::erase_if(peers_, [&](const auto& entry) { return !membership_->may_work(entry.first); });
  // What comes back is measured again, and until then taken for what it was, unless it comes over another network.
  for (auto& [id, peer] : peers_) {
    if (!alive.contains(id)) peer.wanted = true;
  }
  for (const auto& [id, endpoint] : alive) {
    Peer& peer = peers_[id];
    if (peer.endpoint != endpoint) {
      peer = {.endpoint = endpoint, .known_since = time};
      if (id < self) peer.next_try = time + Duration(kOthersTurn);
    }
  }
  if (dial_ || probe_) return;
  const bool idle = is_idle_();
  for (const auto& [id, endpoint] : alive) {
    Peer& peer = peers_.at(id);
    const bool waits = !idle && (peer.rates || time - peer.known_since < Duration(kRatesTimeout));
    if (!peer.wanted || time < peer.next_try || waits) continue;
    peer.next_try = time + Duration(kRetry);
    return probe(id, endpoint, idle ? LinkProbe::Now::kIdle : LinkProbe::Now::kBusy);
  }
}

void LinkProbes::probe(const net::Fingerprint& peer, const net::Endpoint& endpoint, LinkProbe::Now load) {
  dial_ = membership_->work_transport().dial(
      {endpoint, peer}, net::Protocol::kLinkProbe, now() + Duration(kProbeDialTimeout),
      [this, peer, load](auto dialled) {
        const auto finished = std::exchange(dial_, nullptr);
        if (!dialled) return log::debug("a link is not measured: {}", dialled.error().to_string());
        probe_ = LinkProbe::start(loop_, std::move(*dialled), LinkProbe::End::kDialler, LinkProbe::Now::kIdle,
                                  [this, peer, load](const Result<LinkRates>& measured) {
                                    probe_.reset();
                                    on_measured(peer, measured, load);
                                  });
      });
}

void LinkProbes::adopt(std::shared_ptr<net::Connection> connection) {
  const net::Fingerprint peer = connection->peer_fingerprint();
  const auto load = is_idle_() && !probe_ ? LinkProbe::Now::kIdle : LinkProbe::Now::kBusy;
  // Where nothing is known, something beats nothing.
  const bool takes_part = load == LinkProbe::Now::kIdle || (!probe_ && !rates(peer));
  auto probe =
      LinkProbe::start(loop_, std::move(connection), LinkProbe::End::kAnswerer,
                       takes_part ? LinkProbe::Now::kIdle : LinkProbe::Now::kBusy,
                       [this, peer, load](const Result<LinkRates>& measured) { on_measured(peer, measured, load); });
  answered_.push_back(probe);
}

void LinkProbes::on_measured(const net::Fingerprint& peer, const Result<LinkRates>& measured, LinkProbe::Now load) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  if (!measured) return log::debug("a link is not measured: {}", measured.error().to_string());
  if (measured->to_bytes_per_second <= 0 || measured->from_bytes_per_second <= 0) return;
  found->second.rates = *measured;
  // Beside other work it carried less than it can.
  found->second.wanted = load == LinkProbe::Now::kBusy;
  log::info("the link to {} carries {} MB/s there and {} MB/s back", peer.to_string().substr(0, 12),
            number_text(measured->to_bytes_per_second / 1e6), number_text(measured->from_bytes_per_second / 1e6));
}

void LinkProbes::doubt(const net::Fingerprint& peer) {
  if (const auto found = peers_.find(peer); found != peers_.end()) found->second.wanted = true;
}

std::optional<LinkRates> LinkProbes::rates(const net::Fingerprint& peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? std::nullopt : found->second.rates;
}

}  // namespace baton::cluster
