#include <format>
#include <map>

#include "base/log.h"
#include "net/acceptor.h"
#include "net/framed_connection.h"
#include "net/handshake.h"
#include "net/transport_impl.h"

namespace baton::net {

namespace {

// When the system has no descriptor left, trying again at once would only burn the processor.
constexpr Duration kAcceptRetry = std::chrono::milliseconds(100);

class TlsListener final : public Listener {
 public:
  // Outlived only by tasks that find it gone.
  struct State : std::enable_shared_from_this<State> {
    State(const TransportParts& shared, Acceptor listening, ListenOptions given, Transport::OnAccept callback)
        : parts(shared),
          options(std::move(given)),
          on_accept(std::move(callback)),
          acceptor(std::move(listening)),
          retry(parts.loop) {}

    struct Pending {
      std::shared_ptr<Handshake> handshake;
      Timer deadline;
    };

    void accept();
    void begin(Socket socket);
    void conclude(std::uint64_t id, Result<std::shared_ptr<TlsStream>> outcome);

    TransportParts parts;
    ListenOptions options;
    Transport::OnAccept on_accept;
    Acceptor acceptor;
    Timer retry;
    std::map<std::uint64_t, Pending> pending;
    std::uint64_t next_id = 0;
    bool accepting = false;
    bool closed = false;
    Endpoint endpoint;
  };

  explicit TlsListener(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~TlsListener() override {
    state_->closed = true;
    state_->retry.cancel();
    state_->pending.clear();
    boost::system::error_code ignored;
    if (!state_->parts.loop->ended) state_->acceptor.close(ignored);
  }
  const Endpoint& endpoint() const override { return state_->endpoint; }

 private:
  std::shared_ptr<State> state_;
};

void TlsListener::State::accept() {
  if (closed || accepting || pending.size() >= options.max_handshakes) return;
  accepting = true;
  acceptor.async_accept([self = shared_from_this()](const boost::system::error_code& error, Socket socket) {
    self->accepting = false;
    if (self->closed) return;
    if (error) {
      log::warning("{}: cannot accept a connection: {}", self->endpoint.to_string(), error.message());
      self->retry.start(kAcceptRetry, [weak = self->weak_from_this()] {
        if (const auto state = weak.lock()) state->accept();
      });
      return;
    }
    self->begin(std::move(socket));
    self->accept();
  });
}

void TlsListener::State::begin(Socket socket) {
  PeerCheck check{.accepts = options.is_trusted, .protocols = options.protocols};
  auto stream = TlsStream::create(parts.loop, std::move(socket), *parts.tls, TlsSide::kListener, std::move(check),
                                  {.emulator = parts.emulator});
  if (!stream) return;
  const std::uint64_t id = next_id++;
  Pending entry{.handshake = nullptr, .deadline = Timer(parts.loop)};
  entry.deadline.start(options.handshake_timeout, [weak = weak_from_this(), id] {
    if (const auto self = weak.lock()) self->conclude(id, fail(ErrorCode::kTimeout, "the handshake took too long"));
  });
  const auto done = [weak = weak_from_this(), id](Result<std::shared_ptr<TlsStream>> outcome) {
    if (const auto self = weak.lock()) self->conclude(id, std::move(outcome));
  };
  entry.handshake = Handshake::start(parts.loop, std::move(*stream), TlsSide::kListener, done);
  pending.emplace(id, std::move(entry));
}

void TlsListener::State::conclude(std::uint64_t id, Result<std::shared_ptr<TlsStream>> outcome) {
  pending.erase(id);
  accept();
  if (!outcome) {
    log::debug("{}: a connection came to nothing: {}", endpoint.to_string(), outcome.error().to_string());
    return;
  }
  // A copy, for the callback may destroy this listener.
  const auto callback = on_accept;
  callback(std::make_shared<FramedConnection>(parts.loop, std::move(*outcome)));
}

}  // namespace

Result<std::unique_ptr<Listener>> make_listener(const TransportParts& parts, const Endpoint& endpoint,
                                                ListenOptions options, Transport::OnAccept on_accept) {
  if (!options.is_trusted || options.protocols.empty() || !on_accept || options.max_handshakes == 0) {
    return fail(ErrorCode::kInvalidArgument, "a listener must say who may connect, and what to do then");
  }
  auto state = std::make_shared<TlsListener::State>(parts, TRY(open_acceptor(parts.loop->context, endpoint)),
                                                    std::move(options), std::move(on_accept));
  boost::system::error_code error;
  state->endpoint = endpoint_of(state->acceptor.local_endpoint(error));
  parts.loop->post([weak = state->weak_from_this()] {
    if (const auto self = weak.lock()) self->accept();
  });
  return std::make_unique<TlsListener>(std::move(state));
}

}  // namespace baton::net
