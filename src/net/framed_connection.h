// The Connection over a TlsStream. For the sources of this room.
#pragma once

#include <atomic>
#include <memory>

#include "net/connection.h"
#include "net/event_loop_impl.h"
#include "net/frames.h"
#include "net/tls_stream.h"

namespace baton::net {

class FramedConnection final : public Connection,
                               public Resident,
                               public std::enable_shared_from_this<FramedConnection> {
 public:
  // `stream` has completed its handshake.
  FramedConnection(LoopHandle loop, std::shared_ptr<TlsStream> stream);
  ~FramedConnection() override;

  void start(std::shared_ptr<ConnectionHandler> handler) override;
  void wake() override;
  void pause_reading() override;
  void resume_reading() override;
  void close() override;
  void finish(Duration patience) override;
  const Fingerprint& peer_fingerprint() const override { return *stream_->check().seen; }
  ByteSpan peer_certificate() const override { return stream_->check().certificate; }
  Protocol protocol() const override { return stream_->check().protocol; }
  const Endpoint& peer_endpoint() const override { return stream_->peer_endpoint(); }
  const Endpoint& local_endpoint() const override { return stream_->local_endpoint(); }
  std::uint64_t bytes_sent() const override { return stream_->bytes_sent(); }
  std::uint64_t bytes_received() const override { return stream_->bytes_received(); }

  void abandon() override;

 private:
  enum class State {
    kNew,
    kOpen,
    kFinishing,  // sending the last frames
    kFinished,   // waiting for the peer to close
    kClosed,
  };

  void post(void (FramedConnection::*step)());
  Task step_task(void (FramedConnection::*step)());
  void read_some();
  void deliver_frames();
  void discard_some();
  void write_some();
  Result<void> fill();
  void shut(Error error);

  LoopHandle loop_;
  std::shared_ptr<TlsStream> stream_;
  std::shared_ptr<ConnectionHandler> handler_;
  FrameReader reader_;
  FrameGatherer gatherer_;
  FrameGatherer::Source source_;
  Timer patience_;
  State state_ = State::kNew;
  bool paused_ = false;
  bool read_scheduled_ = false;
  bool write_scheduled_ = false;
  bool write_failed_ = false;
  bool frames_wanted_ = true;
  std::atomic<bool> woken_ = false;
};

}  // namespace baton::net
