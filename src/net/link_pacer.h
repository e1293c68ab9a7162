// One direction of an emulated link. For the sources of this room.
#pragma once

#include <deque>
#include <memory>

#include "base/clock.h"
#include "net/event_loop.h"
#include "net/link_emulation.h"

namespace baton::net {

// When bytes may pass, as arithmetic on times that are given: the link is free at a point in time, and each byte moves
// that point on.
class LinkSchedule {
 public:
  explicit LinkSchedule(double bits_per_second) : seconds_per_byte_(8 / bits_per_second) {}

  TimePoint free_at() const { return free_at_; }
  bool free(TimePoint now) const { return free_at_ <= now; }

  // The link was idle until now: what it could have carried is lost.
  void begin(TimePoint now) {
    if (free_at_ < now) free_at_ = now;
  }
  // Carries so many bytes; says when the last of them has passed.
  TimePoint carry(std::size_t bytes) {
    const double exact = seconds_per_byte_ * 1e9 * static_cast<double>(bytes) + fraction_ns_;
    const auto whole = static_cast<std::int64_t>(exact);
    fraction_ns_ = exact - static_cast<double>(whole);
    free_at_ += Duration(whole);
    return free_at_;
  }

 private:
  double seconds_per_byte_;
  double fraction_ns_ = 0;
  TimePoint free_at_{};
};

// Shares a LinkSchedule among connections, who come by turns.
class LinkPacer {
 public:
  LinkPacer(const std::shared_ptr<EventLoop::Impl>& loop, double bits_per_second);

  // How many bytes may pass now; 0: wait() first. Must be followed by carried() if any do.
  std::size_t allowance();
  // Says when the last of them has passed.
  TimePoint carried(std::size_t bytes) { return schedule_.carry(bytes); }
  // Runs `turn` when the link is free for it; those who wait longest come first.
  void wait(Task turn);

  // The most that passes in one turn.
  std::size_t quantum_bytes() const { return quantum_bytes_; }

 private:
  void arm();
  void serve();

  LinkSchedule schedule_;
  std::size_t quantum_bytes_;
  bool serving_ = false;
  std::deque<Task> waiting_;
  Timer timer_;
};

// An interface: both directions, and the way to the other end.
struct LinkEmulator {
  LinkEmulator(const std::shared_ptr<EventLoop::Impl>& loop, const LinkEmulation& emulation)
      : egress(loop, emulation.bits_per_second),
        ingress(loop, emulation.bits_per_second),
        latency(emulation.latency),
        bytes_per_second(emulation.bits_per_second / 8) {}

  // What a busy link of this length holds.
  std::size_t bytes_under_way() const { return static_cast<std::size_t>(bytes_per_second * seconds(latency)); }

  LinkPacer egress;
  LinkPacer ingress;
  Duration latency;
  double bytes_per_second;
};

}  // namespace baton::net
