// Peers that do not speak as baton does: each gets nothing, costs nothing, and disturbs nobody.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "net/test_support.h"
#include "net/tls.h"

namespace baton::net {
namespace {

using std::chrono::milliseconds;

// A blocking socket that gives up after ten seconds.
class RawSocket {
 public:
  explicit RawSocket(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;
  ~RawSocket() { ::close(fd_); }

  int fd() const { return fd_; }
  bool connected() const { return connected_; }
  void send(ByteSpan bytes) const { (void)::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // Everything until the other side closes; nothing if it does not.
  std::optional<Bytes> read_to_end() const {
    Bytes bytes;
    std::array<std::byte, 4096> part;
    while (true) {
      const ssize_t size = ::recv(fd_, part.data(), part.size(), 0);
      if (size < 0 && errno != ECONNRESET) return std::nullopt;
      if (size <= 0) return bytes;
      bytes.insert(bytes.end(), part.begin(), part.begin() + size);
    }
  }

 private:
  int fd_;
  bool connected_ = false;
};

// What one foreign client lived through, in a thread of its own.
struct Outcome {
  bool handshake = false;
  std::optional<Bytes> answer;
};

class HostilePeer : public testing::Test {
 protected:
  HostilePeer() { server_.listen_to(friend_); }

  Outcome visit(const std::function<Outcome(std::uint16_t)>& client) {
    std::optional<Outcome> outcome;
    const std::uint16_t port = server_.listener->endpoint().port;
    std::jthread thread([&] {
      const Outcome result = client(port);
      loop_->post([&, result] {
        outcome = result;
        loop_.poke();
      });
    });
    EXPECT_TRUE(loop_.run_until([&] { return outcome.has_value(); }));
    return outcome.value_or(Outcome{});
  }

  // The listener accepted nobody, and still serves its friend.
  void expect_unharmed() {
    EXPECT_TRUE(server_.accepted.empty());
    const auto visitor = friend_.connect(server_);
    visitor->send(Bytes(10));
    EXPECT_TRUE(loop_.run_until([&] { return server_.accepted[0]->frames.size() == 1; }));
  }

  TestLoop loop_;
  TestNode friend_{loop_};
  TestNode server_{loop_};
  bool done_ = false;
};

// A TLS alert record is 7 bytes; a server hello and certificate are hundreds.
constexpr std::size_t kAlertBytes = 7;

TEST_F(HostilePeer, ThatSpeaksPlainTextGetsAnAlertAtMost) {
  for (const std::string text : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "hello, is anybody there? here is some text\n"}) {
    const Outcome outcome = visit([&](std::uint16_t port) {
      const RawSocket socket(port);
      socket.send(as_byte_span(text));
      return Outcome{.answer = socket.read_to_end()};
    });
    ASSERT_TRUE(outcome.answer) << "was not closed";
    EXPECT_LE(outcome.answer->size(), kAlertBytes);
  }
  expect_unharmed();
}

TEST_F(HostilePeer, ThatSendsNoiseIsClosed) {
  std::mt19937 random(5);
  for (int i = 0; i < 40; ++i) {
    Bytes noise = random_bytes(random, 64 + random() % 3000);
    // Half of them look like the start of a TLS record with a handshake in it.
    if (i % 2 == 0) {
      noise[0] = std::byte{0x16};
      noise[1] = std::byte{0x03};
      noise[2] = std::byte{0x01};
      noise[3] = std::byte{0x00};
      noise[4] = std::byte{0x30};
      noise[5] = std::byte{0x01};
    }
    const Outcome outcome = visit([&](std::uint16_t port) {
      const RawSocket socket(port);
      socket.send(noise);
      ::shutdown(socket.fd(), SHUT_WR);
      return Outcome{.answer = socket.read_to_end()};
    });
    ASSERT_TRUE(outcome.answer) << "was not closed";
    EXPECT_LE(outcome.answer->size(), kAlertBytes);
  }
  expect_unharmed();
}

// Does a TLS handshake and one exchange, set up as `configure` says.
Outcome tls_visit(std::uint16_t port, const std::function<void(SSL_CTX*)>& configure) {
  const RawSocket socket(port);
  const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  configure(context.get());
  const SslPtr ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), socket.fd());
  Outcome outcome;
  outcome.handshake = SSL_connect(ssl.get()) == 1;
  if (!outcome.handshake) return outcome;
  // In TLS 1.3 the client may believe in the handshake before the server has judged it: what counts is an answer.
  const std::array<unsigned char, 5> frame = {1, 0, 0, 0, 42};
  SSL_write(ssl.get(), frame.data(), static_cast<int>(frame.size()));
  std::array<std::byte, 100> answer;
  const int size = SSL_read(ssl.get(), answer.data(), static_cast<int>(answer.size()));
  if (size > 0) outcome.answer = Bytes(answer.begin(), answer.begin() + size);
  return outcome;
}

void present(SSL_CTX* context, const Identity& identity) {
  SSL_CTX_use_certificate(context, identity.keys()->certificate.get());
  SSL_CTX_use_PrivateKey(context, identity.keys()->key.get());
}

void offer_baton(SSL_CTX* context) {
  const std::array<unsigned char, 8> name = {7, 'b', 'a', 't', 'o', 'n', '/', '1'};
  SSL_CTX_set_alpn_protos(context, name.data(), static_cast<unsigned>(name.size()));
}

TEST_F(HostilePeer, WithAnOldTlsIsRefusedEvenWithTheRightKey) {
  const Outcome outcome = visit([&](std::uint16_t port) {
    return tls_visit(port, [&](SSL_CTX* context) {
      SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
      present(context, friend_.identity);
      offer_baton(context);
    });
  });
  EXPECT_FALSE(outcome.handshake);
  expect_unharmed();
}

TEST_F(HostilePeer, WithoutACertificateGetsNoAnswer) {
  const Outcome outcome = visit([&](std::uint16_t port) { return tls_visit(port, offer_baton); });
  EXPECT_FALSE(outcome.answer);
  expect_unharmed();
}

TEST_F(HostilePeer, WithAStrangersKeyGetsNoAnswer) {
  const Identity stranger = new_identity();
  const Outcome outcome = visit([&](std::uint16_t port) {
    return tls_visit(port, [&](SSL_CTX* context) {
      present(context, stranger);
      offer_baton(context);
    });
  });
  EXPECT_FALSE(outcome.answer);
  expect_unharmed();
}

TEST_F(HostilePeer, ThatSpeaksAnotherProtocolOverTlsIsRefused) {
  const Outcome outcome = visit([&](std::uint16_t port) {
    return tls_visit(port, [&](SSL_CTX* context) {
      present(context, friend_.identity);
      const std::array<unsigned char, 3> http = {2, 'h', '2'};
      SSL_CTX_set_alpn_protos(context, http.data(), static_cast<unsigned>(http.size()));
    });
  });
  EXPECT_FALSE(outcome.handshake);
  expect_unharmed();
}

TEST_F(HostilePeer, ThatDoesEverythingRightIsNoHostilePeer) {
  // So that the tests above fail for the reason they name.
  const Outcome outcome = visit([&](std::uint16_t port) {
    return tls_visit(port, [&](SSL_CTX* context) {
      present(context, friend_.identity);
      offer_baton(context);
    });
  });
  ASSERT_TRUE(outcome.answer);
  EXPECT_EQ(*outcome.answer, Bytes(4));
  ASSERT_EQ(server_.accepted.size(), 1u);
  ASSERT_TRUE(loop_.run_until([&] { return server_.accepted[0]->frames.size() == 1; }));
  EXPECT_EQ(server_.accepted[0]->frames[0], Bytes(1, std::byte{42}));
}

TEST_F(HostilePeer, ThatSaysNothingIsClosedAndCannotKeepOthersOut) {
  server_.listen([&](const Fingerprint& seen) { return seen == friend_.identity.fingerprint(); },
                 {.is_trusted = {}, .max_handshakes = 4, .handshake_timeout = milliseconds(700)});
  const std::uint16_t port = server_.listener->endpoint().port;
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (int i = 0; i < 12; ++i) silent.push_back(std::make_unique<RawSocket>(port));
  expect_unharmed();
  std::jthread reader([&] {
    int closed = 0;
    for (const auto& socket : silent) {
      const auto answer = socket->read_to_end();
      if (answer && answer->empty()) ++closed;
    }
    loop_->post([this, closed] {
      EXPECT_EQ(closed, 12);
      done_ = true;
      loop_.poke();
    });
  });
  EXPECT_TRUE(loop_.run_until([&] { return done_; }));
}

// Lengths that a trusted but broken peer may announce, each as the first frame and after a good one.
TEST_F(HostilePeer, ThatAnnouncesAnImpossibleFrameIsClosed) {
  for (const std::uint32_t length : {0u, static_cast<std::uint32_t>(kMaxFrameBytes) + 1, 0xffffffffu}) {
    ByteWriter writer;
    writer.write(std::uint32_t{2});
    writer.write(std::uint16_t{7});
    writer.write(length);
    server_.accepted.clear();
    const Outcome outcome = visit([&](std::uint16_t port) {
      const RawSocket socket(port);
      const SslContextPtr context(SSL_CTX_new(TLS_client_method()));
      present(context.get(), friend_.identity);
      offer_baton(context.get());
      const SslPtr ssl(SSL_new(context.get()));
      SSL_set_fd(ssl.get(), socket.fd());
      Outcome result;
      result.handshake = SSL_connect(ssl.get()) == 1;
      SSL_write(ssl.get(), writer.bytes().data(), static_cast<int>(writer.size()));
      std::array<std::byte, 100> answer;
      int size = 0;
      while ((size = SSL_read(ssl.get(), answer.data(), static_cast<int>(answer.size()))) > 0) {
        result.answer = Bytes(static_cast<std::size_t>(size));
      }
      return result;
    });
    EXPECT_TRUE(outcome.handshake);
    ASSERT_EQ(server_.accepted.size(), 1u);
    ASSERT_TRUE(loop_.run_until([&] { return server_.accepted[0]->closed.has_value(); }));
    EXPECT_EQ(server_.accepted[0]->closed->code, ErrorCode::kProtocol);
    EXPECT_EQ(server_.accepted[0]->frames.size(), 1u);
  }
}

}  // namespace
}  // namespace baton::net
