#include "net/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>

#include "net/connection.h"
#include "net/frames.h"

namespace baton::net {

namespace {

// TLS adds 22 bytes to a record here; handshake messages and alerts need room above what is sent ahead.
constexpr std::size_t kRecordRoom = kRecordBytes + 512;
constexpr std::size_t kOutBytes = Connection::kSendAheadBytes + 2 * kRecordRoom;
constexpr std::size_t kInBytes = 256 * 1024;
// What may lie at the end of an emulated link, beside what is under way on it.
constexpr std::size_t kArrivedBytes = 1024 * 1024;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;
#endif

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

BIO_METHOD* TlsStream::bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "baton socket");
    BIO_meth_set_read_ex(made, bio_read);
    BIO_meth_set_write_ex(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

int TlsStream::bio_read(BIO* bio, char* into, std::size_t size, std::size_t* got) {
  auto* stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const ssize_t received = stream->receive(std::as_writable_bytes(std::span(into, size)));
  *got = received > 0 ? static_cast<std::size_t>(received) : 0;
  if (received < 0) {
    stream->last_errno_ = errno;
    if (would_block(errno)) BIO_set_retry_read(bio);
  }
  if (received == 0) stream->ended_ = true;
  return received > 0 ? 1 : 0;
}

int TlsStream::bio_write(BIO* bio, const char* from, std::size_t size, std::size_t* taken) {
  auto* stream = static_cast<TlsStream*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (stream->out_begin_ == stream->out_end_) stream->out_begin_ = stream->out_end_ = 0;
  // Only a peer that asks for answers (such as key updates) and does not read them comes near the end.
  *taken = std::min(size, kOutBytes - stream->out_end_);
  if (*taken == 0) {
    BIO_set_retry_write(bio);
    return 0;
  }
  std::memcpy(stream->out_.get() + stream->out_end_, from, *taken);
  stream->out_end_ += *taken;
  return 1;
}

long TlsStream::bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

TlsStream::TlsStream(LoopHandle loop, Socket socket, Options options)
    : loop_(std::move(loop)),
      socket_(std::move(socket)),
      options_(std::move(options)),
      send_ahead_bytes_(Connection::kSendAheadBytes),
      delivery_(loop_) {
  if (options_.emulator) {
    send_ahead_bytes_ =
        std::clamp(2 * options_.emulator->egress.quantum_bytes(), 2 * kRecordBytes, Connection::kSendAheadBytes);
    arriving_limit_bytes_ = kArrivedBytes + options_.emulator->bytes_under_way();
  }
}

TlsStream::~TlsStream() = default;

Result<std::shared_ptr<TlsStream>> TlsStream::create(LoopHandle loop, Socket socket, const TlsContext& context,
                                                     TlsSide side, PeerCheck check, Options options) {
  TRY(prepare_socket(socket));
  boost::system::error_code error;
  const Address peer = socket.remote_endpoint(error);
  if (error) return fail(ErrorCode::kUnavailable, "the peer hung up");
  const Address local = socket.local_endpoint(error);
  auto stream = std::shared_ptr<TlsStream>(new TlsStream(std::move(loop), std::move(socket), std::move(options)));
  stream->peer_endpoint_ = endpoint_of(peer);
  stream->local_endpoint_ = endpoint_of(local);
  stream->out_ = std::make_unique_for_overwrite<std::byte[]>(kOutBytes);
  *stream->check_ = std::move(check);
  stream->ssl_ = TRY(context.new_session(side, stream->check_.get()));
  BIO* bio = BIO_new(bio_method());
  if (bio == nullptr) return fail(ErrorCode::kInternal, take_openssl_error("cannot make a TLS session"));
  BIO_set_data(bio, stream.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(stream->ssl_.get(), bio, bio);
  return stream;
}

Error TlsStream::failure(int outcome, int saved_errno) {
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_REASON(code);
  if (outcome == SSL_ERROR_ZERO_RETURN) return {ErrorCode::kUnavailable, "the peer closed the connection", {}};
  if (ended_) {
    ERR_clear_error();
    return {ErrorCode::kUnavailable, "the connection was lost: the peer ended it without saying so", {}};
  }
  if (code == 0 || outcome == SSL_ERROR_SYSCALL) {
    ERR_clear_error();
    return {ErrorCode::kUnavailable, std::format("the connection was lost: {}", std::strerror(saved_errno)), {}};
  }
  // OpenSSL gives an alert from the peer as a reason above this offset (RFC 8446, 6).
  if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255) {
    const int alert = reason - SSL_AD_REASON_OFFSET;
    ERR_clear_error();
    const bool about_key = alert == SSL3_AD_BAD_CERTIFICATE || alert == SSL3_AD_CERTIFICATE_UNKNOWN ||
                           alert == TLS1_AD_UNKNOWN_CA || alert == TLS1_AD_ACCESS_DENIED;
    if (about_key) return {ErrorCode::kRefused, "the peer does not trust this machine's key", {}};
    if (alert == TLS1_AD_NO_APPLICATION_PROTOCOL) {
      return {ErrorCode::kUnsupported, "the peer speaks another version of baton's protocol", {}};
    }
    return {ErrorCode::kProtocol,
            std::format("the peer ended TLS with the alert '{}'", SSL_alert_desc_string_long(alert)),
            {}};
  }
  return {ErrorCode::kProtocol, std::format("TLS failed: {}", take_openssl_error("unknown reason")), {}};
}

Result<bool> TlsStream::handshake() {
  ERR_clear_error();
  last_errno_ = 0;
  const int done = SSL_do_handshake(ssl_.get());
  if (done == 1) return true;
  const int outcome = SSL_get_error(ssl_.get(), done);
  if (outcome == SSL_ERROR_WANT_READ || outcome == SSL_ERROR_WANT_WRITE) return false;
  return std::unexpected(failure(outcome, last_errno_));
}

Result<std::size_t> TlsStream::read(std::span<std::byte> into) {
  ERR_clear_error();
  last_errno_ = 0;
  std::size_t size = 0;
  if (SSL_read_ex(ssl_.get(), into.data(), into.size(), &size) == 1) return size;
  const int outcome = SSL_get_error(ssl_.get(), 0);
  if (outcome == SSL_ERROR_WANT_READ) return std::size_t{0};
  if (outcome == SSL_ERROR_WANT_WRITE) {
    return fail(ErrorCode::kProtocol, "the peer asks TLS for answers and does not read them");
  }
  return std::unexpected(failure(outcome, last_errno_));
}

Result<void> TlsStream::write(ByteSpan plain) {
  if (++records_ >= options_.records_per_key) {
    records_ = 0;
    SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
  }
  while (!plain.empty()) {
    ERR_clear_error();
    std::size_t size = 0;
    if (SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &size) != 1) {
      return std::unexpected(failure(SSL_get_error(ssl_.get(), 0), 0));
    }
    plain = plain.subspan(size);
  }
  return {};
}

Result<bool> TlsStream::flush() {
  paced_ = false;
  while (unsent() > 0) {
    std::size_t size = unsent();
    if (options_.emulator) {
      size = std::min(size, options_.emulator->egress.allowance());
      if (size == 0) {
        paced_ = true;
        return false;
      }
    }
    const ssize_t sent = ::send(socket_.native_handle(), out_.get() + out_begin_, size, kSendFlags);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (would_block(errno)) return false;
      return fail(ErrorCode::kUnavailable, std::format("the connection was lost: {}", std::strerror(errno)));
    }
    out_begin_ += static_cast<std::size_t>(sent);
    bytes_sent_ += static_cast<std::uint64_t>(sent);
    if (options_.emulator) options_.emulator->egress.carried(static_cast<std::size_t>(sent));
  }
  return true;
}

ssize_t TlsStream::receive(std::span<std::byte> into) {
  if (options_.emulator) return receive_from_link(into);
  if (in_begin_ == in_end_) {
    const ssize_t received = receive_from_socket();
    if (received <= 0) return received;
  }
  const std::size_t size = std::min(into.size(), in_end_ - in_begin_);
  std::memcpy(into.data(), in_.get() + in_begin_, size);
  in_begin_ += size;
  return static_cast<ssize_t>(size);
}

ssize_t TlsStream::receive_from_socket() {
  // A read that was not filled has emptied the socket: the next wait finds out what came since for less.
  if (drained_) {
    errno = EAGAIN;
    return -1;
  }
  if (!in_) in_ = std::make_unique_for_overwrite<std::byte[]>(kInBytes);
  ssize_t received = 0;
  do {
    received = ::recv(socket_.native_handle(), in_.get(), kInBytes, 0);
  } while (received < 0 && errno == EINTR);
  in_begin_ = 0;
  in_end_ = received > 0 ? static_cast<std::size_t>(received) : 0;
  bytes_received_ += in_end_;
  drained_ = received > 0 && in_end_ < kInBytes;
  return received;
}

void TlsStream::wait_readable(Task task) {
  if (closed_ || loop_->ended) return;
  if (options_.emulator) {
    on_delivery_ = std::move(task);
    if (!fetching_) fetch_from_socket();
    arm_delivery();
    return;
  }
  drained_ = false;
  socket_.async_wait(Socket::wait_read,
                     [self = shared_from_this(), task = std::move(task)](const boost::system::error_code&) mutable {
                       if (!self->closed_) task();
                     });
}

void TlsStream::wait_writable(Task task) {
  if (closed_ || loop_->ended) return;
  if (paced_) {
    options_.emulator->egress.wait([weak = weak_from_this(), task = std::move(task)]() mutable {
      const auto self = weak.lock();
      if (self && !self->closed_) task();
    });
    return;
  }
  socket_.async_wait(Socket::wait_write,
                     [self = shared_from_this(), task = std::move(task)](const boost::system::error_code&) mutable {
                       if (!self->closed_) task();
                     });
}

void TlsStream::write_goodbye() {
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

std::string TlsStream::protocol() const {
  return std::format("{} {}", SSL_get_version(ssl_.get()), SSL_get_cipher_name(ssl_.get()));
}

void TlsStream::end_sending() { ::shutdown(socket_.native_handle(), SHUT_WR); }

void TlsStream::close() {
  if (closed_) return;
  closed_ = true;
  on_delivery_ = nullptr;
  delivery_.cancel();
  boost::system::error_code ignored;
  if (!loop_->ended) socket_.close(ignored);
}

// From here on: what arrives over an emulated link.

ssize_t TlsStream::receive_from_link(std::span<std::byte> into) {
  if (arrivals_.empty() || arrivals_.front().due > now()) {
    errno = EAGAIN;
    return -1;
  }
  Arrival& arrival = arrivals_.front();
  if (arrival.bytes.empty()) {
    errno = arrival.error;
    return arrival.error == 0 ? 0 : -1;
  }
  const std::size_t size = std::min(into.size(), arrival.bytes.size() - arrival.used);
  std::memcpy(into.data(), arrival.bytes.data() + arrival.used, size);
  arrival.used += size;
  arriving_bytes_ -= size;
  if (arrival.used == arrival.bytes.size()) arrivals_.pop_front();
  return static_cast<ssize_t>(size);
}

void TlsStream::fetch_from_socket() {
  fetching_ = false;
  if (closed_ || loop_->ended) return;
  LinkEmulator& link = *options_.emulator;
  const auto again = [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->fetch_from_socket();
  };
  // What a reader leaves lying stays in the socket, where the peer feels it.
  while (arriving_bytes_ < arriving_limit_bytes_) {
    if (!arrivals_.empty() && arrivals_.back().bytes.empty()) return;
    const std::size_t allowed = link.ingress.allowance();
    if (allowed == 0) {
      fetching_ = true;
      link.ingress.wait(again);
      return;
    }
    Arrival arrival;
    arrival.bytes.resize(allowed);
    const ssize_t received = ::recv(socket_.native_handle(), arrival.bytes.data(), allowed, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && would_block(errno)) {
      fetching_ = true;
      socket_.async_wait(Socket::wait_read, [again](const boost::system::error_code&) { again(); });
      return;
    }
    arrival.error = received < 0 ? errno : 0;
    arrival.bytes.resize(received > 0 ? static_cast<std::size_t>(received) : 0);
    arrival.due = link.ingress.carried(arrival.bytes.size()) + link.latency;
    bytes_received_ += arrival.bytes.size();
    arriving_bytes_ += arrival.bytes.size();
    arrivals_.push_back(std::move(arrival));
    arm_delivery();
  }
}

void TlsStream::arm_delivery() {
  if (!on_delivery_ || arrivals_.empty() || delivery_.armed()) return;
  delivery_.start(arrivals_.front().due, [this] {
    if (Task task = std::exchange(on_delivery_, nullptr)) task();
  });
}

}  // namespace baton::net
