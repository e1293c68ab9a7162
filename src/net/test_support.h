// What the tests of this room share: a loop that never runs for ever, identities, and a handler that remembers.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <format>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/temporary_folder.h"
#include "net/transport.h"

namespace baton::net {

inline constexpr Duration kTestPatience = std::chrono::seconds(20);

template <typename T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().to_string();
    std::abort();
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

inline TemporaryFolder new_folder() { return must(TemporaryFolder::create("baton-net")); }

inline Identity new_identity() {
  const TemporaryFolder folder = new_folder();
  return must(Identity::load_or_create(folder.path() / "id"));
}

inline Bytes random_bytes(std::mt19937& random, std::size_t size) {
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Runs a loop until something is true; whoever may have made it true pokes.
class TestLoop {
 public:
  TestLoop() : loop_(must(EventLoop::create())), deadline_(*loop_) {}
  EventLoop& operator*() { return *loop_; }
  EventLoop* operator->() { return loop_.get(); }

  bool run_until(std::function<bool()> condition, Duration patience = kTestPatience) {
    if (condition()) return true;
    condition_ = std::move(condition);
    deadline_.start(patience, [this] { loop_->stop(); });
    loop_->run();
    deadline_.cancel();
    return std::exchange(condition_, nullptr)();
  }
  void poke() {
    if (condition_ && condition_()) loop_->stop();
  }
  void end() { loop_.reset(); }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::function<bool()> condition_;
  Timer deadline_;
};

class Recorder : public ConnectionHandler {
 public:
  explicit Recorder(TestLoop& loop) : loop_(loop) {}
  void on_frame(ByteSpan frame) override {
    frames.emplace_back(frame.begin(), frame.end());
    if (react) react(frame);
    loop_.poke();
  }
  std::optional<OutFrame> next_frame() override {
    if (produce) return produce();
    if (outgoing.empty()) return std::nullopt;
    OutFrame frame = std::move(outgoing.front());
    outgoing.pop_front();
    return frame;
  }
  void on_closed(const Error& error) override {
    ++closed_count;
    closed = error;
    connection.reset();
    loop_.poke();
  }
  void send(Bytes bytes) {
    outgoing.push_back(OutFrame::owning(std::move(bytes)));
    connection->wake();
  }

  std::vector<Bytes> frames;
  std::deque<OutFrame> outgoing;
  std::function<void(ByteSpan)> react;
  std::function<std::optional<OutFrame>()> produce;
  std::optional<Error> closed;
  int closed_count = 0;
  std::shared_ptr<Connection> connection;

 private:
  TestLoop& loop_;
};

// A node of a test: its identity and transport, and everything that was accepted.
struct TestNode {
  explicit TestNode(TestLoop& shared, std::optional<LinkEmulation> emulation = std::nullopt)
      : loop(shared), identity(new_identity()), transport(must(Transport::create(*loop, identity, emulation))) {}

  void listen(std::function<bool(const Fingerprint&)> is_trusted, ListenOptions options = {}) {
    options.is_trusted = std::move(is_trusted);
    const auto on_accept = [this](const std::shared_ptr<Connection>& connection) {
      auto handler = std::make_shared<Recorder>(loop);
      handler->connection = connection;
      accepted.push_back(handler);
      if (prepare) prepare(*handler);
      connection->start(handler);
      loop.poke();
    };
    listener = must(transport->listen({.host = "127.0.0.1", .port = 0}, std::move(options), on_accept));
  }
  void listen_to(const TestNode& peer) {
    listen([allowed = peer.identity.fingerprint()](const Fingerprint& seen) { return seen == allowed; });
  }
  PeerAddress address() const { return {.endpoint = listener->endpoint(), .fingerprint = identity.fingerprint()}; }

  // Dials and runs the loop until there is an answer.
  Result<std::shared_ptr<Connection>> dial(const PeerAddress& peer, Duration patience = kTestPatience) {
    std::optional<Result<std::shared_ptr<Connection>>> answer;
    const auto pending = transport->dial(peer, now() + patience, [&](auto dialled) {
      answer = std::move(dialled);
      loop.poke();
    });
    if (!loop.run_until([&] { return answer.has_value(); })) return fail(ErrorCode::kInternal, "no answer at all");
    return std::move(*answer);
  }
  // Dials and starts a Recorder; waits until the peer has accepted.
  std::shared_ptr<Recorder> connect(TestNode& peer) {
    const std::size_t before = peer.accepted.size();
    auto handler = std::make_shared<Recorder>(loop);
    handler->connection = must(dial(peer.address()));
    handler->connection->start(handler);
    EXPECT_TRUE(loop.run_until([&] { return peer.accepted.size() > before; }));
    return handler;
  }

  TestLoop& loop;
  Identity identity;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Listener> listener;
  std::function<void(Recorder&)> prepare;
  std::vector<std::shared_ptr<Recorder>> accepted;
};

}  // namespace baton::net
