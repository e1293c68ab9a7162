#include "cluster/guarded_transport.h"

#include "base/log.h"

namespace baton::cluster {

Result<std::unique_ptr<net::Listener>> GuardedTransport::listen(const net::Endpoint& endpoint,
                                                                net::ListenOptions options, OnAccept on_accept) {
  return transport_.listen(endpoint, std::move(options),
                           [check = check_, on_accept = std::move(on_accept)](auto connection) {
                             if (const auto good = check(*connection); !good) {
                               log::warning("refusing a connection: {}", good.error().to_string());
                               return;  // it closes as nobody keeps it
                             }
                             on_accept(std::move(connection));
                           });
}

std::unique_ptr<net::Dial> GuardedTransport::dial(const net::PeerAddress& peer, net::Protocol protocol,
                                                  TimePoint deadline, OnDialled on_dialled) {
  return transport_.dial(peer, protocol, deadline,
                         [check = check_, on_dialled = std::move(on_dialled)](auto dialled) mutable {
                           if (dialled) {
                             if (auto good = check(**dialled); !good)
                               dialled = std::unexpected(std::move(good).error());
                           }
                           on_dialled(std::move(dialled));
                         });
}

}  // namespace baton::cluster
