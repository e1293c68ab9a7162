// What the parts of a transport share. For the sources of this room.
#pragma once

#include <memory>

#include "net/event_loop_impl.h"
#include "net/link_pacer.h"
#include "net/tls.h"
#include "net/transport.h"

namespace baton::net {

struct TransportParts {
  LoopHandle loop;
  std::shared_ptr<TlsContext> tls;
  std::shared_ptr<LinkEmulator> emulator;  // null: the real network
};

Result<std::unique_ptr<Listener>> make_listener(const TransportParts& parts, const Endpoint& endpoint,
                                                ListenOptions options, Transport::OnAccept on_accept);

std::unique_ptr<Dial> make_dial(const TransportParts& parts, const PeerAddress& peer, Protocol protocol,
                                TimePoint deadline, Transport::OnDialled on_dialled);

}  // namespace baton::net
