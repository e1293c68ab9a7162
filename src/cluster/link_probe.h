// Measures how much a connection carries, with a short burst each way: docs/formats/link-probe.md. Both ends learn
// both rates, as who received saw them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "net/connection.h"
#include "net/event_loop.h"

namespace baton::cluster {

struct LinkRates {
  double to_bytes_per_second = 0;
  double from_bytes_per_second = 0;
};

// How fast bytes come in that are sent without a pause.
class ArrivalMeter {
 public:
  void add(std::size_t bytes, TimePoint at) { arrivals_.push_back({bytes, at}); }
  // Over the later three quarters: the beginning is what lay ready and a window that had yet to grow. 0 where too
  // little came to tell.
  double bytes_per_second() const;

 private:
  struct Arrival {
    std::size_t bytes = 0;
    TimePoint at{};
  };
  std::vector<Arrival> arrivals_;
};

// One measurement over a connection of its own, on either end. Lives as long as the connection does.
class LinkProbe : public net::ConnectionHandler, public std::enable_shared_from_this<LinkProbe> {
 public:
  enum class End { kDialler, kAnswerer };
  enum class Now { kIdle, kBusy };
  // Called once, on the loop's thread: kNoCapacity where the peer has no time for this now, kUnavailable, kTimeout,
  // kProtocol. Never from inside start().
  using OnMeasured = std::move_only_function<void(const Result<LinkRates>&)>;

  // An answerer who is busy says so, and nothing is measured.
  static std::shared_ptr<LinkProbe> start(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, End end,
                                          Now load, OnMeasured on_measured);
  // Whoever wanted to know is gone.
  void abandon();

  void on_frame(ByteSpan frame) override;
  std::optional<net::OutFrame> next_frame() override;
  void on_closed(const Error& error) override;

 private:
  enum class Sending { kNothing, kBurst, kEnd };

  LinkProbe(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, End end, Now load,
            OnMeasured on_measured);
  Result<void> take(ByteSpan frame);
  Result<void> on_end();
  Result<void> on_result(double bytes_per_second);
  void say(Bytes message);
  void begin_burst();
  void tell(Result<LinkRates> measured);

  std::shared_ptr<net::Connection> connection_;
  const End end_;
  const Now load_;
  OnMeasured on_measured_;
  net::Timer deadline_;
  std::vector<Bytes> said_;  // goes out before the burst
  Sending sending_ = Sending::kNothing;
  TimePoint burst_began_{};
  std::size_t sent_bytes_ = 0;
  std::size_t received_bytes_ = 0;
  ArrivalMeter meter_;
  bool begun_ = false;     // the dialler's first word has come
  bool received_ = false;  // the peer's burst, whole
  LinkRates rates_;
};

}  // namespace baton::cluster
