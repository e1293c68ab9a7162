// Lets nodes find each other on the local network, by DNS-SD (RFC 6763) over multicast DNS, through the system's own
// daemon. What is found is an address to try and no more: who answers there must hold the node's key.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "net/event_loop.h"
#include "net/service_record.h"

namespace baton::net {

// What is announced: the record, and the port for those who look the host's name up themselves.
struct Announcement {
  ServiceRecord record;
  std::uint16_t port = 0;
};

// Announces and looks around from its creation to its end, and tries again where the daemon is not there. Calls into
// the system's library may wait for the daemon, so they are made on a thread of their own, which the end waits for.
class ServiceDiscovery {
 public:
  struct Events {
    // Both on the loop's thread. A node may be found several times; one that goes is not told.
    std::function<void(const ServiceRecord&)> found;
    // Told at first and whenever it changes: whether a daemon answers. kUnavailable where none does, kUnsupported where
    // this program was built without.
    std::function<void(const Result<void>&)> state;
  };

  // Without an announcement it only looks.
  static std::unique_ptr<ServiceDiscovery> start(EventLoop& loop, std::optional<Announcement> own, Events events);
  virtual ~ServiceDiscovery() = default;

  // The compatibility library of Avahi reads its environment. Call it in main(), before there are threads.
  static void prepare_process_environment();
};

}  // namespace baton::net
