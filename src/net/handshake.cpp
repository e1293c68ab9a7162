#include "net/handshake.h"

#include <array>
#include <utility>

#include "net/frames.h"

namespace baton::net {

namespace {

constexpr std::array<std::byte, kFrameLengthBytes> kReadyFrame{};

}  // namespace

std::shared_ptr<Handshake> Handshake::start(LoopHandle loop, std::shared_ptr<TlsStream> stream, TlsSide side,
                                            Done done) {
  auto handshake = std::shared_ptr<Handshake>(new Handshake(std::move(stream), side, std::move(done)));
  loop->post([weak = handshake->weak_from_this()] {
    if (const auto self = weak.lock()) self->advance();
  });
  return handshake;
}

Handshake::~Handshake() {
  if (stream_) stream_->close();
}

void Handshake::advance() {
  if (!stream_) return;
  if (!failure_) {
    if (const auto taken = take_steps(); !taken) failure_ = taken.error();
  }
  const auto again = [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->advance();
  };
  // What we have to say goes out first, be it only the alert that tells the peer why this fails.
  const auto flushed = stream_->flush();
  if (flushed && !*flushed) {
    stream_->wait_writable(again);
  } else if (failure_) {
    stream_->end_sending();
    std::exchange(stream_, nullptr)->close();
    std::exchange(done_, nullptr)(std::unexpected(*failure_));
  } else if (flushed && step_ == Step::kDone) {
    std::exchange(done_, nullptr)(std::exchange(stream_, nullptr));
  } else {
    // A socket that cannot be written to may still hold the peer's reason, so reading goes on.
    stream_->wait_readable(again);
  }
}

Result<void> Handshake::take_steps() {
  if (step_ == Step::kTls && TRY(stream_->handshake())) step_ = Step::kReady;
  if (step_ == Step::kReady) TRY(step_ready());
  return {};
}

Result<void> Handshake::step_ready() {
  if (side_ == TlsSide::kListener) {
    TRY(stream_->write(kReadyFrame));
    step_ = Step::kDone;
    return {};
  }
  while (ready_bytes_ < kReadyFrame.size()) {
    std::array<std::byte, kFrameLengthBytes> bytes;
    const std::size_t size = TRY(stream_->read(std::span(bytes).first(kReadyFrame.size() - ready_bytes_)));
    if (size == 0) return {};
    for (const std::byte byte : std::span(bytes).first(size)) {
      if (byte != std::byte{0}) return fail(ErrorCode::kProtocol, "the peer does not greet as baton does");
    }
    ready_bytes_ += size;
  }
  step_ = Step::kDone;
  return {};
}

}  // namespace baton::net
