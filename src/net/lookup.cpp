#include "net/lookup.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <format>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace baton::net {

namespace {

constexpr std::size_t kMostLookups = 32;

struct Waiting {
  std::weak_ptr<EventLoop::Impl> loop;
  std::uint16_t port = 0;
  std::weak_ptr<OnAddresses> done;  // gone with whoever asked
};

struct Lookups {
  std::mutex mutex;
  std::map<std::string, std::vector<Waiting>> by_name;
};

// Never destroyed: a thread may come back to it when the process is ending.
Lookups& lookups() {
  static auto& lookups = *new Lookups;
  return lookups;
}

Result<std::vector<Address>> ask_system(const std::string& name) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int problem = ::getaddrinfo(name.c_str(), nullptr, &hints, &found);
  if (problem != 0) return fail(ErrorCode::kNotFound, std::format("no such host ({})", ::gai_strerror(problem)));
  const std::unique_ptr<addrinfo, decltype([](addrinfo* list) { ::freeaddrinfo(list); })> list(found);
  std::vector<Address> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    Address address;
    if (entry->ai_addrlen > address.capacity()) continue;
    std::memcpy(address.data(), entry->ai_addr, entry->ai_addrlen);
    address.resize(entry->ai_addrlen);
    addresses.push_back(address);
  }
  return addresses;
}

void tell(const Waiting& waiting, Result<std::vector<Address>> addresses) {
  if (addresses) {
    for (Address& address : *addresses) address.port(waiting.port);
  }
  if (const LoopHandle loop = waiting.loop.lock()) {
    loop->post([asked = waiting.done, addresses = std::move(addresses)]() mutable {
      if (const Lookup done = asked.lock()) (*done)(std::move(addresses));
    });
  }
}

void look_up_and_tell(const std::string& name) {
  const auto addresses = ask_system(name);
  std::vector<Waiting> waiting;
  {
    const std::scoped_lock lock(lookups().mutex);
    waiting = std::move(lookups().by_name.extract(name).mapped());
  }
  for (const Waiting& one : waiting) tell(one, addresses);
}

}  // namespace

Lookup look_up(const LoopHandle& loop, const Endpoint& endpoint, OnAddresses done) {
  auto lookup = std::make_shared<OnAddresses>(std::move(done));
  const Waiting waiting{loop, endpoint.port, lookup};
  const std::scoped_lock lock(lookups().mutex);
  auto& by_name = lookups().by_name;
  if (const auto found = by_name.find(endpoint.host); found != by_name.end()) {
    // Who dials again and again while a name server is silent waits once.
    std::erase_if(found->second, [](const Waiting& other) { return other.done.expired() || other.loop.expired(); });
    found->second.push_back(waiting);
    return lookup;
  }
  if (by_name.size() == kMostLookups) {
    tell(waiting, fail(ErrorCode::kNoCapacity, "too many host names are being looked up"));
    return lookup;
  }
  try {
    by_name[endpoint.host].push_back(waiting);
    std::thread(look_up_and_tell, endpoint.host).detach();
  } catch (const std::system_error& error) {
    by_name.erase(endpoint.host);
    tell(waiting, fail(ErrorCode::kNoCapacity, std::format("cannot look up the host: {}", error.what())));
  }
  return lookup;
}

std::size_t waiting_for(const std::string& host) {
  const std::scoped_lock lock(lookups().mutex);
  const auto found = lookups().by_name.find(host);
  return found == lookups().by_name.end() ? 0 : found->second.size();
}

}  // namespace baton::net
