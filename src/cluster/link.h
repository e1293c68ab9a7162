// One connection of the membership protocol: greets, keeps a queue of what to say, and hands on what it hears.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "cluster/messages.h"
#include "net/connection.h"
#include "net/event_loop.h"

namespace baton::cluster {

// What a node says it runs: "baton 0.1.0".
std::string own_software();

enum class DialledBy { kUs, kPeer };

class Link : public net::ConnectionHandler, public std::enable_shared_from_this<Link> {
 public:
  // Told on the loop's thread, never from inside a call to the link. Whoever owns them calls abandon() first.
  struct Events {
    std::function<void(Link&)> greeted;
    std::function<void(Link&, const Message&)> heard;  // anything but Hello, after the greeting
    std::function<void(Link&, const Error&)> closed;   // once
  };

  static std::shared_ptr<Link> start(net::EventLoop& loop, std::shared_ptr<net::Connection> connection,
                                     DialledBy dialled_by, Events events);

  void say(const Message& message);
  // What was said goes out first, for at most `patience`.
  void finish(Duration patience);
  void close();
  // Closes, and nothing is told any more.
  void abandon();

  const net::Fingerprint& peer() const { return connection_->peer_fingerprint(); }
  const net::Connection& connection() const { return *connection_; }
  DialledBy dialled_by() const { return dialled_by_; }
  bool ready() const { return greeted_ && !ending_; }
  TimePoint heard_at() const { return heard_at_; }
  void excuse_silence(TimePoint now) { heard_at_ = now; }
  const std::string& software() const { return software_; }

  void on_frame(ByteSpan frame) override;
  std::optional<net::OutFrame> next_frame() override;
  void on_closed(const Error& error) override;

 private:
  Link(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, DialledBy dialled_by, Events events);
  Result<void> take(ByteSpan frame);

  std::shared_ptr<net::Connection> connection_;
  DialledBy dialled_by_;
  Events events_;
  net::Timer greeting_;
  std::deque<Bytes> queue_;
  std::size_t queued_bytes_ = 0;
  std::string software_;
  TimePoint heard_at_;
  bool greeted_ = false;
  bool ending_ = false;
  std::optional<Error> reason_;  // why this side closed
};

}  // namespace baton::cluster
