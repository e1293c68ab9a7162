#include "cli/cluster_peers.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "cluster/guarded_transport.h"
#include "cluster/link_probes.h"
#include "trust/certificate.h"
#include "trust/cluster_time.h"

namespace baton::cli {

namespace {

// The node of this machine is asked where the others are; it answers at once, or is not there.
constexpr auto kAskTimeout = std::chrono::seconds(1);

std::int64_t system_clock_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A transport together with the one that it guards.
class OwnedTransport final : public net::Transport {
 public:
  OwnedTransport(std::unique_ptr<net::Transport> transport, cluster::CheckPeer check)
      : transport_(std::move(transport)), guard_(*transport_, std::move(check)) {}

  Result<std::unique_ptr<net::Listener>> listen(const net::Endpoint& endpoint, net::ListenOptions options,
                                                OnAccept on_accept) override {
    return guard_.listen(endpoint, std::move(options), std::move(on_accept));
  }
  std::unique_ptr<net::Dial> dial(const net::PeerAddress& peer, net::Protocol protocol, TimePoint deadline,
                                  OnDialled on_dialled) override {
    return guard_.dial(peer, protocol, deadline, std::move(on_dialled));
  }
  Result<void> present(const net::Identity& identity) override { return guard_.present(identity); }

 private:
  std::unique_ptr<net::Transport> transport_;
  cluster::GuardedTransport guard_;
};

}  // namespace

Result<ClusterPeers> ClusterPeers::read(const cluster::Folder& folder) {
  const net::Fingerprint& self = folder.identity().fingerprint();
  ClusterPeers peers(self);
  peers.list_ = TRY(folder.read_members());
  if (!peers.list_) return peers;
  if (const trust::Member* member = peers.list_->find(self)) peers.self_.name = member->name;
  const std::optional<Bytes> certificate = TRY(folder.read_certificate());
  peers.certificate_ = certificate.value_or(Bytes());
  auto answer = cluster::ask(folder, {.command = cluster::Command::kNodes}, Duration(kAskTimeout));
  if (!answer) {
    log::debug("{}", answer.error().to_string());
    answer = TRY(cluster::ask_folder(folder));
  } else {
    peers.reports_ = answer->nodes;
  }
  for (const cluster::NodeReport& node : answer->nodes) {
    // Where it was met may be no more than the port that it called from.
    const auto endpoint = cluster::work_endpoint(node.state, node.address);
    if (node.id == peers.self_.fingerprint || !endpoint) continue;
    peers.nodes_.push_back({node.name, endpoint->to_string(), node.id});
  }
  return peers;
}

Result<std::unique_ptr<net::Transport>> ClusterPeers::transport(net::EventLoop& loop, const net::Identity& identity,
                                                                std::optional<net::LinkEmulation> emulation) const {
  auto transport = TRY(net::Transport::create(loop, identity, std::move(emulation)));
  if (!list_) return transport;
  trust::ClusterTime time(system_clock_s(), now());
  if (const auto claims = net::read_certificate(certificate_); claims && claims->subject == identity.fingerprint()) {
    TRY(transport->present(TRY(identity.with_certificate(certificate_))));
    time.learn(claims->begin_s, now());
  }
  const auto check = [list = *list_, time](const net::Connection& connection) -> Result<void> {
    const net::Fingerprint& peer = connection.peer_fingerprint();
    if (list.contains(peer) || list.is_revoked(peer)) {
      TRY(trust::check_certificate(list, connection.peer_certificate(), peer, time.at(now())));
    }
    return {};
  };
  return std::make_unique<OwnedTransport>(std::move(transport), check);
}

}  // namespace baton::cli
