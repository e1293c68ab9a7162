#include <boost/asio/ip/tcp.hpp>
#include <format>
#include <utility>
#include <vector>

#include "net/framed_connection.h"
#include "net/handshake.h"
#include "net/lookup.h"
#include "net/transport_impl.h"

namespace baton::net {

namespace {

// Name, then each address in turn, then the handshake; the deadline covers all of it.
class DialState : public std::enable_shared_from_this<DialState> {
 public:
  DialState(const TransportParts& parts, const PeerAddress& peer, Protocol protocol, Transport::OnDialled on_dialled)
      : parts_(parts),
        peer_(peer),
        protocol_(protocol),
        on_dialled_(std::move(on_dialled)),
        socket_(parts_.loop->context),
        deadline_(parts_.loop) {}

  void begin(TimePoint deadline);
  void cancel();

 private:
  void resolve();
  void connect_next();
  void greet();
  void conclude(Result<std::shared_ptr<TlsStream>> outcome);
  Error explain(Error error) const;

  TransportParts parts_;
  PeerAddress peer_;
  Protocol protocol_;
  Transport::OnDialled on_dialled_;  // null once called or cancelled
  Socket socket_;
  Timer deadline_;
  Lookup lookup_;
  std::vector<Address> addresses_;
  std::size_t next_address_ = 0;
  std::string last_problem_ = "it has no address";
  std::shared_ptr<TlsStream> stream_;
  std::shared_ptr<Handshake> handshake_;
};

void DialState::begin(TimePoint deadline) {
  deadline_.start(deadline, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->conclude(fail(ErrorCode::kTimeout, "it did not answer in time"));
  });
  if (const auto numeric = numeric_address(peer_.endpoint)) {
    addresses_ = {*numeric};
    connect_next();
  } else {
    resolve();
  }
}

void DialState::resolve() {
  lookup_ = look_up(parts_.loop, peer_.endpoint, [weak = weak_from_this()](Result<std::vector<Address>> found) {
    const auto self = weak.lock();
    if (!self || !self->on_dialled_) return;
    if (!found) return self->conclude(std::unexpected(std::move(found).error()));
    self->addresses_ = std::move(*found);
    self->connect_next();
  });
}

void DialState::connect_next() {
  boost::system::error_code ignored;
  if (socket_.is_open()) socket_.close(ignored);
  if (next_address_ == addresses_.size()) {
    return conclude(fail(ErrorCode::kUnavailable, std::format("cannot connect: {}", last_problem_)));
  }
  socket_.async_connect(addresses_[next_address_++],
                        [self = shared_from_this()](const boost::system::error_code& error) {
                          if (!self->on_dialled_) return;
                          if (!error) return self->greet();
                          self->last_problem_ = error.message();
                          self->connect_next();
                        });
}

void DialState::greet() {
  PeerCheck check{.accepts = [expected = peer_.fingerprint](const Fingerprint& seen) { return seen == expected; },
                  .protocols = {protocol_}};
  auto stream = TlsStream::create(parts_.loop, std::move(socket_), *parts_.tls, TlsSide::kDialer, std::move(check),
                                  {.emulator = parts_.emulator});
  if (!stream) return conclude(std::unexpected(stream.error()));
  stream_ = std::move(*stream);
  const auto done = [weak = weak_from_this()](Result<std::shared_ptr<TlsStream>> outcome) {
    if (const auto self = weak.lock()) self->conclude(std::move(outcome));
  };
  handshake_ = Handshake::start(parts_.loop, stream_, TlsSide::kDialer, done);
}

Error DialState::explain(Error error) const {
  const PeerCheck* check = stream_ ? &stream_->check() : nullptr;
  if (check != nullptr && check->seen && !check->accepted) {
    error = {ErrorCode::kInvalidArgument,
             std::format("another machine answered: its key is {}, but {} was expected", check->seen->to_string(),
                         peer_.fingerprint.to_string()),
             {}};
  } else if (error.code == ErrorCode::kRefused) {
    error.message += std::format("; there, allow it with --trust {}", parts_.tls->identity().fingerprint().to_string());
  }
  error.context = peer_.endpoint.to_string();
  return error;
}

void DialState::conclude(Result<std::shared_ptr<TlsStream>> outcome) {
  if (!on_dialled_) return;
  auto callback = std::exchange(on_dialled_, nullptr);
  // What is reported has to be read before the stream is let go.
  Result<std::shared_ptr<Connection>> result = fail(ErrorCode::kInternal, "");
  if (outcome) {
    result = std::make_shared<FramedConnection>(parts_.loop, std::move(*outcome));
  } else {
    result = std::unexpected(explain(std::move(outcome).error()));
  }
  cancel();
  callback(std::move(result));
}

void DialState::cancel() {
  on_dialled_ = nullptr;
  deadline_.cancel();
  lookup_.reset();
  handshake_.reset();
  stream_.reset();
  if (parts_.loop->ended) return;
  boost::system::error_code ignored;
  if (socket_.is_open()) socket_.close(ignored);
}

class TlsDial final : public Dial {
 public:
  explicit TlsDial(std::shared_ptr<DialState> state) : state_(std::move(state)) {}
  ~TlsDial() override { state_->cancel(); }

 private:
  std::shared_ptr<DialState> state_;
};

}  // namespace

std::unique_ptr<Dial> make_dial(const TransportParts& parts, const PeerAddress& peer, Protocol protocol,
                                TimePoint deadline, Transport::OnDialled on_dialled) {
  auto state = std::make_shared<DialState>(parts, peer, protocol, std::move(on_dialled));
  if (!parts.loop->ended) state->begin(deadline);
  return std::make_unique<TlsDial>(std::move(state));
}

}  // namespace baton::net
