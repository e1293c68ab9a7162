// From a connected socket to two ends that know each other. For the sources of this room.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "net/event_loop_impl.h"
#include "net/tls_stream.h"

namespace baton::net {

// Drives the TLS handshake. In TLS 1.3 a dialer is finished before the listener has judged its key, so the listener
// then sends an empty frame, and only that completes the dialer's side.
class Handshake : public std::enable_shared_from_this<Handshake> {
 public:
  using Done = std::move_only_function<void(Result<std::shared_ptr<TlsStream>>)>;

  // Calls `done` once, never from inside start(), unless the handshake is destroyed first. There is no deadline here.
  static std::shared_ptr<Handshake> start(LoopHandle loop, std::shared_ptr<TlsStream> stream, TlsSide side, Done done);
  ~Handshake();

 private:
  enum class Step { kTls, kReady, kDone };

  Handshake(std::shared_ptr<TlsStream> stream, TlsSide side, Done done)
      : stream_(std::move(stream)), side_(side), done_(std::move(done)) {}
  void advance();
  Result<void> take_steps();
  Result<void> step_ready();

  std::shared_ptr<TlsStream> stream_;
  TlsSide side_;
  Done done_;
  Step step_ = Step::kTls;
  std::size_t ready_bytes_ = 0;
  std::optional<Error> failure_;
};

}  // namespace baton::net
