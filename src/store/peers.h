// The other nodes of the cluster, as whoever pulls from them needs to know them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "net/transport.h"

namespace baton::store {

struct PeerNode {
  std::string name;
  net::PeerAddress address;
};

struct Peers {
  std::vector<PeerNode> nodes;
  // A transport that shows this node's certificate; on the loop of whoever pulls.
  std::function<Result<std::unique_ptr<net::Transport>>(net::EventLoop&)> transport;
};

}  // namespace baton::store
