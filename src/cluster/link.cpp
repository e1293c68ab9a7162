#include "cluster/link.h"

#include <format>
#include <utility>

#include "base/log.h"
#include "base/version.h"

namespace baton::cluster {

namespace {

constexpr auto kGreetingTimeout = std::chrono::seconds(2);
// A peer that we do not understand hears our greeting all the same, and has so long to end the connection.
constexpr auto kMisunderstoodPatience = std::chrono::milliseconds(500);
// A peer that does not read what it is told is not worth remembering more for.
constexpr std::size_t kMaxQueuedBytes = 8 << 20;

}  // namespace

Link::Link(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, DialledBy dialled_by, Events events)
    : connection_(std::move(connection)),
      dialled_by_(dialled_by),
      events_(std::move(events)),
      greeting_(loop),
      heard_at_(now()) {}

std::string own_software() { return std::format("baton {}", version()); }

std::shared_ptr<Link> Link::start(net::EventLoop& loop, std::shared_ptr<net::Connection> connection,
                                  DialledBy dialled_by, Events events) {
  auto link = std::shared_ptr<Link>(new Link(loop, std::move(connection), dialled_by, std::move(events)));
  link->say(Hello{.software = own_software()});
  link->connection_->start(link);
  link->greeting_.start(Duration(kGreetingTimeout), [link = link.get()] {
    link->reason_ = Error{ErrorCode::kTimeout, "the peer does not greet", {}};
    link->close();
  });
  return link;
}

void Link::say(const Message& message) {
  if (ending_) return;
  Bytes bytes = encode(message);
  if (queued_bytes_ + bytes.size() > kMaxQueuedBytes) {
    reason_ = Error{ErrorCode::kTimeout, "the peer does not read what it is told", {}};
    close();
    return;
  }
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  connection_->wake();
}

void Link::finish(Duration patience) {
  ending_ = true;
  connection_->finish(patience);
}

void Link::close() {
  ending_ = true;
  connection_->close();
}

void Link::abandon() {
  events_ = {};
  greeting_.cancel();
  close();
}

void Link::on_frame(ByteSpan frame) {
  heard_at_ = now();
  if (ending_) return;
  if (auto taken = take(frame); !taken) {
    log::warning("{}: {}", peer().to_string().substr(0, 12), taken.error().to_string());
    reason_ = std::move(taken).error();
    greeting_.cancel();
    if (greeted_) return close();
    finish(kMisunderstoodPatience);
  }
}

Result<void> Link::take(ByteSpan frame) {
  const Message message = TRY(decode(frame));
  if (const auto* hello = std::get_if<Hello>(&message)) {
    if (greeted_) return fail(ErrorCode::kProtocol, "the peer greets twice");
    if (hello->lowest_version > kVersion || hello->highest_version < kVersion) {
      return fail(
          ErrorCode::kUnsupported,
          std::format("the peer speaks membership versions {} to {}, this baton version {}: update the older one",
                      hello->lowest_version, hello->highest_version, kVersion));
    }
    software_ = hello->software;
    greeted_ = true;
    greeting_.cancel();
    if (events_.greeted) events_.greeted(*this);
    return {};
  }
  if (!greeted_) return fail(ErrorCode::kProtocol, "the peer speaks before it greets");
  if (events_.heard) events_.heard(*this, message);
  return {};
}

std::optional<net::OutFrame> Link::next_frame() {
  // Nothing but a greeting for a peer that may not understand the rest.
  if (queue_.empty()) return std::nullopt;
  Bytes bytes = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= bytes.size();
  return net::OutFrame::owning(std::move(bytes));
}

void Link::on_closed(const Error& error) {
  ending_ = true;
  greeting_.cancel();
  const auto closed = std::exchange(events_, {}).closed;
  if (closed) closed(*this, reason_.value_or(error));
}

}  // namespace baton::cluster
