#include "net/transport.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "net/test_support.h"

namespace baton::net {
namespace {

using std::chrono::milliseconds;

// A socket whose connections the system completes, and that then says nothing.
class SilentPeer {
 public:
  SilentPeer() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd_, 8) != 0) std::abort();
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  SilentPeer(const SilentPeer&) = delete;
  SilentPeer& operator=(const SilentPeer&) = delete;
  ~SilentPeer() { ::close(fd_); }
  std::uint16_t port() const { return port_; }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

TEST(Connection, CarriesFramesOfAnySizeBothWaysIntact) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto here = right.accepted[0];
  EXPECT_EQ(there->connection->peer_fingerprint(), right.identity.fingerprint());
  EXPECT_EQ(here->connection->peer_fingerprint(), left.identity.fingerprint());
  EXPECT_EQ(there->connection->peer_endpoint(), right.listener->endpoint());
  EXPECT_EQ(there->connection->local_endpoint(), here->connection->peer_endpoint());

  std::mt19937 random(3);
  const auto owner = std::make_shared<const Bytes>(random_bytes(random, 1'000'000));
  std::array<std::vector<Bytes>, 2> expected;
  for (int i = 0; i < 300; ++i) {
    for (int side = 0; side < 2; ++side) {
      const std::size_t most = i % 10 == 0 ? kMaxFrameBytes : i % 3 == 0 ? 40000 : 300;
      std::size_t left_bytes = i == 0 ? kMaxFrameBytes : 1 + random() % most;
      OutFrame frame;
      const std::size_t header = std::min(left_bytes, random() % (OutFrame::kMaxHeaderBytes + 1));
      frame.set_header(ByteSpan(*owner).subspan(random() % 1000, header));
      left_bytes -= header;
      const std::size_t first = random() % (left_bytes + 1);
      frame.payload = {ByteSpan(*owner).subspan(random() % 1000, first),
                       ByteSpan(*owner).subspan(random() % 1000, left_bytes - first)};
      frame.keep_alive = owner;
      Bytes& whole = expected[static_cast<std::size_t>(side)].emplace_back();
      for (const ByteSpan part : {frame.header(), frame.payload[0], frame.payload[1]}) {
        whole.insert(whole.end(), part.begin(), part.end());
      }
      (side == 0 ? there : here)->outgoing.push_back(std::move(frame));
    }
  }
  there->connection->wake();
  here->connection->wake();
  ASSERT_TRUE(loop.run_until([&] { return there->frames.size() == 300 && here->frames.size() == 300; }));
  EXPECT_EQ(here->frames, expected[0]);
  EXPECT_EQ(there->frames, expected[1]);
  EXPECT_EQ(owner.use_count(), 1) << "every payload was let go";
  EXPECT_GT(there->connection->bytes_sent(), 300u);
  EXPECT_EQ(there->connection->bytes_sent(), here->connection->bytes_received());
}

TEST(Connection, LetsAnUrgentFrameOvertakeBulk) {
  TestLoop loop;
  TestNode left(loop, LinkEmulation{.bits_per_second = 1e8});
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  std::size_t bulk_left = 100;
  bool urgent = false;
  there->produce = [&]() -> std::optional<OutFrame> {
    if (std::exchange(urgent, false)) return OutFrame::owning(Bytes(1));
    if (bulk_left == 0) return std::nullopt;
    --bulk_left;
    return OutFrame::owning(Bytes(50'000));
  };
  there->connection->wake();
  const auto here = right.accepted[0];
  ASSERT_TRUE(loop.run_until([&] { return here->frames.size() >= 10; }));
  const std::size_t arrived = here->frames.size();
  urgent = true;
  there->connection->wake();
  const auto is_urgent = [](const Bytes& frame) { return frame.size() == 1; };
  ASSERT_TRUE(loop.run_until([&] { return std::ranges::any_of(here->frames, is_urgent); }));
  EXPECT_LE(here->frames.size(), arrived + 1 + Connection::kSendAheadBytes / 50'000 + 2);
}

TEST(Connection, StopsAskingForFramesWhenThePeerDoesNotRead) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.prepare = [](Recorder& handler) { handler.connection->pause_reading(); };
  right.listen_to(left);
  const auto there = left.connect(right);
  constexpr std::size_t kFrames = 800;
  constexpr std::size_t kSize = 200'000;
  std::size_t asked = 0;
  std::uint64_t most_ahead = 0;
  Timer quiet(*loop);
  bool stalled = false;
  there->produce = [&]() -> std::optional<OutFrame> {
    if (asked == kFrames) return std::nullopt;
    most_ahead = std::max(most_ahead, asked * kSize - std::min(asked * kSize, there->connection->bytes_sent()));
    ++asked;
    quiet.start(milliseconds(300), [&] {
      stalled = true;
      loop.poke();
    });
    return OutFrame::owning(Bytes(kSize, static_cast<std::byte>(asked)));
  };
  there->connection->wake();
  ASSERT_TRUE(loop.run_until([&] { return stalled; }));
  EXPECT_LT(asked, kFrames);
  EXPECT_LE(most_ahead, kSize + Connection::kSendAheadBytes);
  const auto here = right.accepted[0];
  EXPECT_TRUE(here->frames.empty());
  std::size_t arrived = 0;
  here->react = [&](ByteSpan frame) {
    EXPECT_EQ(frame.size(), kSize);
    EXPECT_EQ(frame.back(), static_cast<std::byte>(++arrived));
    here->frames.clear();
  };
  here->connection->resume_reading();
  EXPECT_TRUE(loop.run_until([&] { return arrived == kFrames; }));
}

TEST(Connection, DeliversNothingBetweenPauseAndResume) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto here = right.accepted[0];
  here->react = [&](ByteSpan) { here->connection->pause_reading(); };
  for (int i = 0; i < 5; ++i) there->send(Bytes(10));
  for (std::size_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(loop.run_until([&] { return here->frames.size() == i; }));
    EXPECT_FALSE(loop.run_until([&] { return here->frames.size() > i; }, milliseconds(20)));
    here->connection->resume_reading();
  }
}

TEST(Connection, MayBeWokenFromAnotherThread) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  std::atomic<int> ready = 0;
  int sent = 0;
  there->produce = [&]() -> std::optional<OutFrame> {
    if (sent == ready) return std::nullopt;
    ++sent;
    return OutFrame::owning(Bytes(100));
  };
  std::jthread producer([&, connection = there->connection] {
    for (int i = 0; i < 2000; ++i) {
      ++ready;
      connection->wake();
    }
  });
  EXPECT_TRUE(loop.run_until([&] { return right.accepted[0]->frames.size() == 2000; }));
}

TEST(Connection, ClosedByOneSideEndsOnBoth) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto here = right.accepted[0];
  there->connection->close();
  EXPECT_EQ(there->closed_count, 0) << "not from inside close()";
  ASSERT_TRUE(loop.run_until([&] { return there->closed && here->closed; }));
  EXPECT_EQ(there->closed->code, ErrorCode::kCancelled);
  EXPECT_EQ(here->closed->code, ErrorCode::kUnavailable);
  EXPECT_NE(here->closed->to_string().find("the peer closed"), std::string::npos) << here->closed->to_string();
  EXPECT_EQ(there->closed_count, 1);
  EXPECT_EQ(here->closed_count, 1);
}

TEST(Connection, DeliversNoFrameAfterItWasClosed) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto here = right.accepted[0];
  here->react = [&](ByteSpan) {
    if (here->frames.size() == 3) here->connection->close();
  };
  for (int i = 0; i < 50; ++i) there->outgoing.push_back(OutFrame::owning(Bytes(10)));
  there->connection->wake();
  ASSERT_TRUE(loop.run_until([&] { return here->closed && there->closed; }));
  EXPECT_EQ(here->frames.size(), 3u);
}

TEST(Connection, LetsGoOfEveryPayloadWhenItCloses) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.prepare = [](Recorder& handler) { handler.connection->pause_reading(); };
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto payload = std::make_shared<const Bytes>(250'000);
  there->produce = [&]() -> std::optional<OutFrame> {
    OutFrame frame;
    frame.payload[0] = *payload;
    frame.keep_alive = payload;
    return frame;
  };
  there->connection->wake();
  ASSERT_FALSE(loop.run_until([&] { return there->closed.has_value(); }, milliseconds(100)));
  EXPECT_GT(payload.use_count(), 1);
  there->connection->close();
  ASSERT_TRUE(loop.run_until([&] { return there->closed.has_value(); }));
  EXPECT_EQ(payload.use_count(), 1);
}

TEST(Connection, FinishSendsEverythingFirst) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  const auto here = right.accepted[0];
  // Unread bytes at the finishing side must not make the system throw away what it still has to send.
  for (int i = 0; i < 10; ++i) here->outgoing.push_back(OutFrame::owning(Bytes(100'000)));
  here->connection->wake();
  for (int i = 0; i < 40; ++i) there->outgoing.push_back(OutFrame::owning(Bytes(200'000)));
  there->connection->finish(std::chrono::seconds(10));
  ASSERT_TRUE(loop.run_until([&] { return there->closed && here->closed; }));
  EXPECT_EQ(here->frames.size(), 40u);
  EXPECT_TRUE(there->frames.empty());
  EXPECT_EQ(there->closed->code, ErrorCode::kCancelled);
  EXPECT_NE(here->closed->message.find("the peer closed"), std::string::npos) << here->closed->to_string();
}

TEST(Connection, FinishGivesUpOnAPeerThatDoesNotRead) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.prepare = [](Recorder& handler) { handler.connection->pause_reading(); };
  right.listen_to(left);
  const auto there = left.connect(right);
  there->produce = [] { return OutFrame::owning(Bytes(200'000)); };
  there->connection->finish(milliseconds(100));
  ASSERT_TRUE(loop.run_until([&] { return there->closed.has_value(); }));
  EXPECT_EQ(there->closed->code, ErrorCode::kCancelled);
}

TEST(Connection, ThatNobodyStartsClosesWhenItIsLetGo) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  { const auto unused = must(left.dial(right.address())); }
  ASSERT_TRUE(loop.run_until([&] { return right.accepted.size() == 1 && right.accepted[0]->closed; }));
  EXPECT_EQ(right.accepted[0]->closed->code, ErrorCode::kUnavailable);
}

TEST(Connection, DropsAFrameItMayNotSendWithAClearError) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const auto there = left.connect(right);
  there->send(Bytes(kMaxFrameBytes + 1));
  ASSERT_TRUE(loop.run_until([&] { return there->closed && right.accepted[0]->closed; }));
  EXPECT_EQ(there->closed->code, ErrorCode::kInternal);
  EXPECT_TRUE(right.accepted[0]->frames.empty());
}

TEST(Connection, NoticesThatItsPeersProcessWasKilled) {
  const Identity parent_identity = new_identity();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    TestLoop loop;
    TestNode node(loop);
    node.listen([&](const Fingerprint& seen) { return seen == parent_identity.fingerprint(); });
    const std::string line = node.address().to_string() + "\n";
    if (::write(ends[1], line.data(), line.size()) < 0) ::_exit(1);
    loop.run_until([] { return false; }, std::chrono::seconds(60));
    ::_exit(0);
  }
  std::string line;
  for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) line += c;
  TestLoop loop;
  TestNode node(loop);
  node.transport = must(Transport::create(*loop, parent_identity));
  auto handler = std::make_shared<Recorder>(loop);
  handler->connection = must(node.dial(must(PeerAddress::parse(line))));
  handler->connection->start(handler);
  handler->produce = [&] {
    loop.poke();
    return OutFrame::owning(Bytes(100'000));
  };
  handler->connection->wake();
  ASSERT_TRUE(loop.run_until([&] { return handler->connection->bytes_sent() > 100'000; }));
  ::kill(child, SIGKILL);
  ASSERT_TRUE(loop.run_until([&] { return handler->closed.has_value(); }));
  EXPECT_EQ(handler->closed->code, ErrorCode::kUnavailable);
  EXPECT_NE(handler->closed->message.find("lost"), std::string::npos) << handler->closed->message;
  EXPECT_EQ(handler->closed_count, 1);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Transport, LeavesNothingBehindWhenItsLoopEndsFirst) {
  std::weak_ptr<ConnectionHandler> handler;
  std::weak_ptr<Connection> connection;
  const auto payload = std::make_shared<const Bytes>(100'000);
  {
    TestLoop loop;
    TestNode left(loop, LinkEmulation{.bits_per_second = 1e7});
    TestNode right(loop, LinkEmulation{.bits_per_second = 1e7});
    right.listen_to(left);
    const auto there = left.connect(right);
    there->produce = [&]() -> std::optional<OutFrame> {
      OutFrame frame;
      frame.payload[0] = *payload;
      frame.keep_alive = payload;
      return frame;
    };
    there->connection->wake();
    const SilentPeer silent;
    PeerAddress unanswered = right.address();
    unanswered.endpoint.port = silent.port();
    const auto dial = left.transport->dial(unanswered, now() + std::chrono::seconds(9), [](auto) { FAIL(); });
    ASSERT_FALSE(loop.run_until([&] { return there->closed.has_value(); }, milliseconds(50)));
    handler = there;
    connection = there->connection;
    there->connection->wake();
    loop.end();
    there->connection->wake();
    there->connection.reset();
  }
  EXPECT_TRUE(handler.expired());
  EXPECT_TRUE(connection.expired());
  EXPECT_EQ(payload.use_count(), 1);
}

TEST(Listener, ReportsThePortItWasGivenAndRefusesATakenOne) {
  TestLoop loop;
  TestNode node(loop);
  node.listen([](const Fingerprint&) { return false; });
  EXPECT_GT(node.listener->endpoint().port, 0);
  EXPECT_EQ(node.listener->endpoint().host, "127.0.0.1");
  ListenOptions options;
  options.is_trusted = [](const Fingerprint&) { return false; };
  const auto taken = node.transport->listen(node.listener->endpoint(), options, [](auto) {});
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::kIo);
  EXPECT_NE(taken.error().message.find(node.listener->endpoint().to_string()), std::string::npos);
  options.is_trusted = nullptr;
  EXPECT_FALSE(node.transport->listen({.host = "127.0.0.1", .port = 0}, options, [](auto) {}));
}

TEST(Listener, OnEveryAddressIsReachedByNameAndNumber) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  ListenOptions options;
  options.is_trusted = [](const Fingerprint&) { return true; };
  std::vector<std::shared_ptr<Connection>> accepted;
  const auto everywhere =
      must(right.transport->listen({}, options, [&](auto connection) { accepted.push_back(std::move(connection)); }));
  for (const std::string host : {"127.0.0.1", "localhost"}) {
    const PeerAddress peer{.endpoint = {.host = host, .port = everywhere->endpoint().port},
                           .fingerprint = right.identity.fingerprint()};
    const auto connection = left.dial(peer);
    EXPECT_TRUE(connection) << connection.error().to_string();
  }
}

TEST(Dial, RefusesAPeerWithAnotherKeyAndNamesBoth) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  PeerAddress peer = right.address();
  peer.fingerprint = left.identity.fingerprint();
  const auto connection = left.dial(peer);
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(connection.error().message.find(right.identity.fingerprint().to_string()), std::string::npos);
  EXPECT_NE(connection.error().message.find(left.identity.fingerprint().to_string()), std::string::npos);
  EXPECT_TRUE(right.accepted.empty());
}

TEST(Dial, IsRefusedByAListenerThatDoesNotTrustItAndSaysWhatToDo) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  std::vector<Fingerprint> asked;
  right.listen([&](const Fingerprint& seen) {
    asked.push_back(seen);
    return false;
  });
  const auto connection = left.dial(right.address());
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code, ErrorCode::kRefused);
  EXPECT_NE(connection.error().message.find("--trust " + left.identity.fingerprint().to_string()), std::string::npos)
      << connection.error().to_string();
  EXPECT_EQ(asked, std::vector{left.identity.fingerprint()});
  EXPECT_TRUE(right.accepted.empty());
}

TEST(Dial, SaysThatNobodyListens) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  const PeerAddress peer = right.address();
  right.listener.reset();
  const auto connection = left.dial(peer);
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(connection.error().context, peer.endpoint.to_string());
}

TEST(Dial, GivesUpAtItsDeadline) {
  TestLoop loop;
  TestNode node(loop);
  const SilentPeer silent;
  const PeerAddress peer{.endpoint = {.host = "127.0.0.1", .port = silent.port()},
                         .fingerprint = node.identity.fingerprint()};
  const TimePoint begin = now();
  const auto connection = node.dial(peer, milliseconds(100));
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().code, ErrorCode::kTimeout);
  EXPECT_GE(now() - begin, milliseconds(100));
}

TEST(Dial, NeverCallsBackOnceItIsDestroyed) {
  TestLoop loop;
  TestNode left(loop);
  TestNode right(loop);
  right.listen_to(left);
  // Given up at once, and at each turn of the loop on the way to a connection.
  for (int turns = 0; turns < 12; ++turns) {
    bool called = false;
    auto dial = left.transport->dial(right.address(), now() + std::chrono::seconds(9), [&](auto) { called = true; });
    int turn = 0;
    std::function<void()> step = [&] {
      if (turn++ == turns || called) {
        dial.reset();
        const bool before = std::exchange(called, false);
        if (before) turn = -1;
        loop.poke();
      } else {
        loop->post([&] { step(); });
      }
    };
    loop->post([&] { step(); });
    ASSERT_TRUE(loop.run_until([&] { return dial == nullptr; }));
    EXPECT_FALSE(loop.run_until([&] { return called; }, milliseconds(20)));
  }
  // The deadline of a dial that was given up does nothing either.
  const SilentPeer silent;
  PeerAddress peer = right.address();
  peer.endpoint.port = silent.port();
  bool called = false;
  auto dial = left.transport->dial(peer, now() + milliseconds(10), [&](auto) { called = true; });
  dial.reset();
  EXPECT_FALSE(loop.run_until([&] { return called; }, milliseconds(50)));
}

}  // namespace
}  // namespace baton::net
