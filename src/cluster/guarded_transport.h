// A transport for work: a connection is handed on only if the peer's certificate is good now.
#pragma once

#include <functional>

#include "net/transport.h"

namespace baton::cluster {

using CheckPeer = std::function<Result<void>(const net::Connection&)>;

// Borrows `transport`, which must outlive it.
class GuardedTransport final : public net::Transport {
 public:
  GuardedTransport(net::Transport& transport, CheckPeer check) : transport_(transport), check_(std::move(check)) {}

  Result<std::unique_ptr<net::Listener>> listen(const net::Endpoint& endpoint, net::ListenOptions options,
                                                OnAccept on_accept) override;
  std::unique_ptr<net::Dial> dial(const net::PeerAddress& peer, net::Protocol protocol, TimePoint deadline,
                                  OnDialled on_dialled) override;
  Result<void> present(const net::Identity& identity) override { return transport_.present(identity); }

 private:
  net::Transport& transport_;
  CheckPeer check_;
};

}  // namespace baton::cluster
