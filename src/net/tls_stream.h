// A TLS session over a non-blocking socket, perhaps behind an emulated link. For the sources of this room.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "net/event_loop_impl.h"
#include "net/link_pacer.h"
#include "net/socket.h"
#include "net/tls.h"

namespace baton::net {

// OpenSSL encrypts into, and decrypts from, buffers that are moved here in few large system calls. Nothing blocks:
// what cannot go on says so, and wait_readable() or wait_writable() say when to try again.
// A task that waits is dropped without being run when the stream is closed or its loop ends. It must not own the
// stream.
class TlsStream : public std::enable_shared_from_this<TlsStream> {
 public:
  struct Options {
    std::shared_ptr<LinkEmulator> emulator;  // may be null
    // After so many records the key is changed. AES-GCM must not see more than 2^24.5 (RFC 8446, 5.5).
    std::uint64_t records_per_key = 1 << 23;
  };

  static Result<std::shared_ptr<TlsStream>> create(LoopHandle loop, Socket socket, const TlsContext& context,
                                                   TlsSide side, PeerCheck check, Options options);
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;
  ~TlsStream();

  // True when the handshake is complete; false: flush(), then wait until readable.
  Result<bool> handshake();

  // How many bytes were read, 0 when there are none now. kUnavailable at the end of the stream.
  Result<std::size_t> read(std::span<std::byte> into);

  // Encrypts one record of at most kRecordBytes. Only when has_room().
  Result<void> write(ByteSpan plain);
  bool has_room() const { return unsent() < send_ahead_bytes_; }
  std::size_t unsent() const { return out_end_ - out_begin_; }

  // Gives what is encrypted to the system; true when all of it is gone, false: wait until writable.
  Result<bool> flush();

  void wait_readable(Task task);
  void wait_writable(Task task);

  // Says goodbye inside TLS (close_notify); the bytes still have to be flushed.
  void write_goodbye();
  // Ends our direction of the socket.
  void end_sending();
  void close();

  const PeerCheck& check() const { return *check_; }
  std::string protocol() const;  // "TLSv1.3 TLS_AES_128_GCM_SHA256"
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_received() const { return bytes_received_; }
  const Endpoint& peer_endpoint() const { return peer_endpoint_; }
  const Endpoint& local_endpoint() const { return local_endpoint_; }

 private:
  // What came from the socket and is on its way over the emulated link. No bytes: the end of the stream.
  struct Arrival {
    Bytes bytes;
    std::size_t used = 0;
    TimePoint due{};
    int error = 0;
  };

  TlsStream(LoopHandle loop, Socket socket, Options options);
  Error failure(int outcome, int saved_errno);

  static BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* into, std::size_t size, std::size_t* got);
  static int bio_write(BIO* bio, const char* from, std::size_t size, std::size_t* taken);
  static long bio_control(BIO* bio, int command, long number, void* pointer);
  // Bytes read; 0 at the end of the stream; -1 with errno set.
  ssize_t receive(std::span<std::byte> into);
  ssize_t receive_from_socket();
  ssize_t receive_from_link(std::span<std::byte> into);
  void fetch_from_socket();
  void arm_delivery();

  LoopHandle loop_;
  Socket socket_;
  Options options_;
  // Behind a pointer of its own, since OpenSSL keeps it.
  std::unique_ptr<PeerCheck> check_ = std::make_unique<PeerCheck>();
  SslPtr ssl_;
  Endpoint peer_endpoint_;
  Endpoint local_endpoint_;
  bool closed_ = false;
  bool drained_ = false;  // the last read took all the socket had
  bool ended_ = false;    // the peer's side of the socket is closed
  bool paced_ = false;    // the emulated link, not the socket, holds the next byte back
  int last_errno_ = 0;

  std::unique_ptr<std::byte[]> in_;
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  std::unique_ptr<std::byte[]> out_;
  std::size_t out_begin_ = 0;
  std::size_t out_end_ = 0;
  std::size_t send_ahead_bytes_;
  std::uint64_t records_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_received_ = 0;

  std::deque<Arrival> arrivals_;
  std::size_t arriving_bytes_ = 0;
  std::size_t arriving_limit_bytes_ = 0;
  bool fetching_ = false;
  Task on_delivery_;
  Timer delivery_;
};

}  // namespace baton::net
