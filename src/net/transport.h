// Connections between nodes: TLS 1.3 only (RFC 8446), both ends with a certificate, both checked by fingerprint.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/connection.h"
#include "net/endpoint.h"
#include "net/event_loop.h"
#include "net/identity.h"
#include "net/link_emulation.h"
#include "net/protocol.h"

namespace baton::net {

struct ListenOptions {
  // Who may connect. Anyone else is turned away by a TLS alert in the handshake, before a byte of theirs is parsed.
  std::function<bool(const Fingerprint&)> is_trusted;
  // What is spoken here, in order of preference; a connection that wants none of it ends in the handshake.
  std::vector<Protocol> protocols = {Protocol::kWork};
  // While so many handshakes are under way, further connections wait in the system's queue.
  std::size_t max_handshakes = 64;
  Duration handshake_timeout = std::chrono::seconds(5);
};

// Accepts until it is destroyed; connections already handed over live on.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual const Endpoint& endpoint() const = 0;  // numeric, with the port that was really bound
};

// A dial under way. Destroying it gives up: the callback is then never called.
class Dial {
 public:
  virtual ~Dial() = default;
};

// Makes connections with one identity, over one (perhaps emulated) network interface.
class Transport {
 public:
  using OnAccept = std::function<void(std::shared_ptr<Connection>)>;
  using OnDialled = std::move_only_function<void(Result<std::shared_ptr<Connection>>)>;

  static Result<std::unique_ptr<Transport>> create(EventLoop& loop, const Identity& identity,
                                                   std::optional<LinkEmulation> emulation = std::nullopt);
  virtual ~Transport() = default;

  // Binds and listens at once; an empty host takes every address of this machine, IPv6 and IPv4.
  // Errors: kIo when the address is taken or not this machine's, kInvalidArgument without `is_trusted`.
  virtual Result<std::unique_ptr<Listener>> listen(const Endpoint& endpoint, ListenOptions options,
                                                   OnAccept on_accept) = 0;

  // Calls back once, on the loop's thread: with a connection whose peer has proved to hold the key of that fingerprint
  // and has accepted ours, or with kRefused (it did not accept ours, and nothing else), kInvalidArgument (a machine
  // with another key answered), kUnavailable (nobody there), kTimeout, kNotFound (no such host name), kUnsupported (it
  // does not speak that protocol).
  [[nodiscard]] virtual std::unique_ptr<Dial> dial(const PeerAddress& peer, Protocol protocol, TimePoint deadline,
                                                   OnDialled on_dialled) = 0;
  [[nodiscard]] std::unique_ptr<Dial> dial(const PeerAddress& peer, TimePoint deadline, OnDialled on_dialled) {
    return dial(peer, Protocol::kWork, deadline, std::move(on_dialled));
  }

  // Connections from now on show this certificate of the same key.
  virtual Result<void> present(const Identity& identity) = 0;

 protected:
  Transport() = default;
};

}  // namespace baton::net
