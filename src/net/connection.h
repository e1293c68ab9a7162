// An encrypted connection to a known peer that carries frames both ways.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "net/endpoint.h"
#include "net/fingerprint.h"
#include "net/protocol.h"

namespace baton::net {

// A frame is a u32 little-endian length and so many bytes: 1 to kMaxFrameBytes. (A length of 0 belongs to the
// transport.) Anything else closes the connection with kProtocol.
inline constexpr std::size_t kMaxFrameBytes = (256 + 4) * 1024;

// A frame to send: header bytes, then up to two borrowed spans. They are read until `keep_alive` is released, which
// happens on the loop's thread as soon as the bytes have been encrypted (not when the peer has them), or when the
// connection closes.
class OutFrame {
 public:
  static constexpr std::size_t kMaxHeaderBytes = 256;

  OutFrame() = default;
  // A whole frame that owns its bytes.
  static OutFrame owning(Bytes bytes);

  // Copies at most kMaxHeaderBytes, to be sent before the payload.
  void set_header(ByteSpan bytes);
  ByteSpan header() const { return {header_.data(), header_size_}; }
  std::size_t size() const { return header_size_ + payload[0].size() + payload[1].size(); }

  std::array<ByteSpan, 2> payload;
  std::shared_ptr<const void> keep_alive;

 private:
  std::size_t header_size_ = 0;
  std::array<std::byte, kMaxHeaderBytes> header_{};
};

// What a connection asks and tells its user, on the loop's thread, never from inside one of the user's own calls.
class ConnectionHandler {
 public:
  virtual ~ConnectionHandler() = default;

  // A whole frame, 1 to kMaxFrameBytes, at no particular alignment; the bytes are gone when this returns.
  virtual void on_frame(ByteSpan frame) = 0;

  // Asked whenever the connection can take more, after start() and after wake(); nothing to send: nullopt, and it will
  // not be asked again before the next wake(). At most kSendAheadBytes are taken before the socket has room, so the
  // order in which frames are returned here is the place to give one priority over another.
  virtual std::optional<OutFrame> next_frame() = 0;

  // Exactly once, at the end; nothing is called afterwards. kCancelled: this side called close() or finish().
  // kUnavailable: the peer closed, or the connection was lost. kProtocol: the peer broke the protocol.
  virtual void on_closed(const Error& error) = 0;
};

class Connection {
 public:
  // Encrypted but not yet taken by the system; up to 512 KiB more lies unsent in the socket.
  static constexpr std::size_t kSendAheadBytes = 128 * 1024;

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  // Begins to read and to ask for frames. Call it once; the connection keeps `handler` and itself alive until it has
  // called on_closed. A connection that was never started closes when its last owner lets go of it.
  virtual void start(std::shared_ptr<ConnectionHandler> handler) = 0;

  // There is something to send. Cheap; the only member that may be called from any thread.
  virtual void wake() = 0;

  // Lets the peer's bytes wait in the socket, so that it feels back-pressure. A lost connection is then noticed only
  // by writing to it.
  virtual void pause_reading() = 0;
  virtual void resume_reading() = 0;

  // Reading has stopped and no more frames are delivered when this returns; bytes not yet sent are dropped. on_closed
  // follows. A second call does nothing.
  virtual void close() = 0;

  // As close(), but first sends what next_frame() still has, and waits until the peer has closed its side too, for at
  // most `patience`. Nothing more is delivered.
  virtual void finish(Duration patience) = 0;

  virtual const Fingerprint& peer_fingerprint() const = 0;
  virtual ByteSpan peer_certificate() const = 0;  // DER; nobody has judged anything in it but its key
  virtual Protocol protocol() const = 0;
  virtual const Endpoint& peer_endpoint() const = 0;  // numeric
  virtual const Endpoint& local_endpoint() const = 0;

  // Bytes on the socket, with what TLS adds and the handshake.
  virtual std::uint64_t bytes_sent() const = 0;
  virtual std::uint64_t bytes_received() const = 0;

 protected:
  Connection() = default;
};

}  // namespace baton::net
