#include "net/framed_connection.h"

#include <cassert>

namespace baton::net {

namespace {

// After so much, other connections and timers of the loop come first.
constexpr std::size_t kTurnBytes = 1024 * 1024;

}  // namespace

FramedConnection::FramedConnection(LoopHandle loop, std::shared_ptr<TlsStream> stream)
    : loop_(std::move(loop)), stream_(std::move(stream)), patience_(loop_) {
  source_ = [this]() -> std::optional<OutFrame> {
    if (state_ != State::kOpen && state_ != State::kFinishing) return std::nullopt;
    return handler_->next_frame();
  };
}

FramedConnection::~FramedConnection() {
  if (state_ != State::kClosed) stream_->close();
}

Task FramedConnection::step_task(void (FramedConnection::*step)()) {
  return [weak = weak_from_this(), step] {
    if (const auto self = weak.lock()) (self.get()->*step)();
  };
}

void FramedConnection::post(void (FramedConnection::*step)()) { loop_->post(step_task(step)); }

void FramedConnection::start(std::shared_ptr<ConnectionHandler> handler) {
  if (state_ != State::kNew || loop_->ended) return;
  state_ = State::kOpen;
  handler_ = std::move(handler);
  loop_->residents.insert(shared_from_this());
  read_scheduled_ = true;
  post(&FramedConnection::read_some);
  wake();
}

void FramedConnection::wake() {
  if (woken_.exchange(true)) return;
  loop_->post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->woken_ = false;
    self->frames_wanted_ = true;
    if (!self->write_scheduled_) self->write_some();
  });
}

void FramedConnection::pause_reading() { paused_ = true; }

void FramedConnection::resume_reading() {
  paused_ = false;
  if (state_ != State::kOpen || read_scheduled_) return;
  read_scheduled_ = true;
  post(&FramedConnection::read_some);
}

void FramedConnection::close() {
  if (state_ == State::kClosed) return;
  stream_->write_goodbye();
  // Best effort: a peer that does not hear it sees the socket end.
  (void)stream_->flush();
  shut(Error{ErrorCode::kCancelled, "this side closed the connection", {}});
}

void FramedConnection::finish(Duration patience) {
  if (state_ == State::kNew) return close();
  if (state_ != State::kOpen) return;
  state_ = State::kFinishing;
  patience_.start(patience, step_task(&FramedConnection::close));
  if (!read_scheduled_) {
    read_scheduled_ = true;
    post(&FramedConnection::read_some);
  }
  wake();
}

void FramedConnection::abandon() {
  state_ = State::kClosed;
  stream_->close();
  gatherer_.clear();
  // Out first, for the handler may be this connection's last owner.
  const auto handler = std::exchange(handler_, nullptr);
}

void FramedConnection::shut(Error error) {
  if (state_ == State::kClosed) return;
  const bool started = state_ != State::kNew;
  state_ = State::kClosed;
  patience_.cancel();
  stream_->close();
  if (!started) return;
  // The task keeps the connection alive, so that whoever is running inside it can return.
  loop_->post([self = shared_from_this(), error = std::move(error)]() mutable {
    self->loop_->residents.erase(self);
    const auto handler = std::exchange(self->handler_, nullptr);
    self->gatherer_.clear();
    error.context = self->peer_endpoint().to_string();
    if (handler) handler->on_closed(error);
  });
}

void FramedConnection::read_some() {
  read_scheduled_ = false;
  if (state_ == State::kFinishing || state_ == State::kFinished) return discard_some();
  std::size_t turn = 0;
  deliver_frames();
  while (state_ == State::kOpen && !paused_) {
    if (turn >= kTurnBytes) {
      read_scheduled_ = true;
      return post(&FramedConnection::read_some);
    }
    const auto size = stream_->read(reader_.space());
    if (!size) return shut(size.error());
    if (*size == 0) {
      read_scheduled_ = true;
      stream_->wait_readable(step_task(&FramedConnection::read_some));
      // TLS itself may have had to answer the peer.
      if (stream_->unsent() > 0 && !write_scheduled_) write_some();
      return;
    }
    turn += *size;
    reader_.filled(*size);
    deliver_frames();
  }
}

void FramedConnection::deliver_frames() {
  while (state_ == State::kOpen && !paused_) {
    const auto frame = reader_.next();
    if (!frame) {
      stream_->write_goodbye();
      (void)stream_->flush();
      return shut(frame.error());
    }
    if (!*frame) return;
    handler_->on_frame(**frame);
  }
}

void FramedConnection::discard_some() {
  std::array<std::byte, kRecordBytes> nowhere;
  for (std::size_t turn = 0; turn < kTurnBytes; turn += nowhere.size()) {
    const auto size = stream_->read(nowhere);
    if (!size) return shut(Error{ErrorCode::kCancelled, "this side finished the connection", {}});
    if (*size == 0) {
      read_scheduled_ = true;
      return stream_->wait_readable(step_task(&FramedConnection::read_some));
    }
  }
  read_scheduled_ = true;
  post(&FramedConnection::read_some);
}

void FramedConnection::write_some() {
  write_scheduled_ = false;
  const std::uint64_t turn_begin = stream_->bytes_sent();
  while (state_ != State::kClosed && !write_failed_) {
    const auto flushed = stream_->flush();
    if (!flushed) {
      // What the peer said before it went is still to be read; reading then ends by itself.
      write_failed_ = true;
      if (paused_) shut(flushed.error());
      return;
    }
    if (!*flushed) {
      write_scheduled_ = true;
      return stream_->wait_writable(step_task(&FramedConnection::write_some));
    }
    if (state_ == State::kFinished) return stream_->end_sending();
    if (stream_->bytes_sent() - turn_begin >= kTurnBytes) {
      write_scheduled_ = true;
      return post(&FramedConnection::write_some);
    }
    if (!frames_wanted_) return;
    if (const auto filled = fill(); !filled) return shut(filled.error());
  }
}

Result<void> FramedConnection::fill() {
  while (stream_->has_room() && state_ != State::kClosed) {
    const ByteSpan piece = TRY(gatherer_.next_piece(source_));
    if (state_ == State::kClosed) return {};
    if (piece.empty()) {
      frames_wanted_ = false;
      if (state_ != State::kFinishing) return {};
      state_ = State::kFinished;
      stream_->write_goodbye();
      frames_wanted_ = true;
      return {};
    }
    TRY(stream_->write(piece));
    gatherer_.released();
  }
  return {};
}

}  // namespace baton::net
