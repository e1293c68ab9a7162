#include "net/transport.h"

#include "net/transport_impl.h"

namespace baton::net {

namespace {

class TlsTransport final : public Transport {
 public:
  explicit TlsTransport(TransportParts parts) : parts_(std::move(parts)) {}

  Result<std::unique_ptr<Listener>> listen(const Endpoint& endpoint, ListenOptions options,
                                           OnAccept on_accept) override {
    return make_listener(parts_, endpoint, std::move(options), std::move(on_accept));
  }
  std::unique_ptr<Dial> dial(const PeerAddress& peer, Protocol protocol, TimePoint deadline,
                             OnDialled on_dialled) override {
    return make_dial(parts_, peer, protocol, deadline, std::move(on_dialled));
  }
  Result<void> present(const Identity& identity) override { return parts_.tls->present(identity); }

 private:
  TransportParts parts_;
};

}  // namespace

Result<std::unique_ptr<Transport>> Transport::create(EventLoop& loop, const Identity& identity,
                                                     std::optional<LinkEmulation> emulation) {
  auto tls = TRY(TlsContext::create(identity));
  TransportParts parts{.loop = handle_of(loop), .tls = std::move(tls), .emulator = nullptr};
  if (emulation) {
    TRY(emulation->check());
    parts.emulator = std::make_shared<LinkEmulator>(parts.loop, *emulation);
  }
  return std::make_unique<TlsTransport>(std::move(parts));
}

}  // namespace baton::net
