// Where the system has no dns_sd.h.
#include "net/service_discovery.h"

namespace baton::net {

std::unique_ptr<ServiceDiscovery> ServiceDiscovery::start(EventLoop& loop, std::optional<Announcement> /*own*/,
                                                          Events events) {
  loop.post([state = std::move(events.state)] {
    state(fail(ErrorCode::kUnsupported, "this program was built without DNS-SD"));
  });
  return nullptr;
}

void ServiceDiscovery::prepare_process_environment() {}

}  // namespace baton::net
