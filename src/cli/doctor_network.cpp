#include "cli/doctor_network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <format>
#include <optional>

#include "base/descriptor.h"

namespace baton::cli {

namespace {

constexpr int kConnectTimeoutMs = 1000;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// Of a numeric endpoint, as peers are known by.
std::optional<SocketAddress> address_of(const net::Endpoint& endpoint) {
  SocketAddress address;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, endpoint.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    std::memcpy(&address.storage, &v4, sizeof v4);
    address.size = sizeof v4;
    return address;
  }
  if (inet_pton(AF_INET6, endpoint.host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    std::memcpy(&address.storage, &v6, sizeof v6);
    address.size = sizeof v6;
    return address;
  }
  return std::nullopt;
}

bool same_host(const sockaddr* left, const sockaddr* right) {
  if (left == nullptr || left->sa_family != right->sa_family) return false;
  if (left->sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(left)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in*>(right)->sin_addr.s_addr;
  }
  return left->sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6*>(left)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(right)->sin6_addr, sizeof(in6_addr)) == 0;
}

// Connecting a datagram socket sends nothing: the system only looks up its way, and so our address on it.
std::string interface_to(const net::Endpoint& endpoint) {
  const auto target = address_of(endpoint);
  if (!target) return "";
  const Descriptor probe(::socket(target->storage.ss_family, SOCK_DGRAM, 0));
  if (!probe.is_open() || ::connect(probe.number(), target->get(), target->size) != 0) return "";
  SocketAddress own;
  own.size = sizeof own.storage;
  if (::getsockname(probe.number(), own.get(), &own.size) != 0) return "";
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return "";
  std::string name;
  for (const ifaddrs* entry = list; entry != nullptr && name.empty(); entry = entry->ifa_next) {
    if (same_host(entry->ifa_addr, own.get())) name = entry->ifa_name;
  }
  freeifaddrs(list);
  return name;
}

bool accepts(const net::Endpoint& endpoint) {
  const auto target = address_of(endpoint);
  if (!target) return false;
  const Descriptor socket(::socket(target->storage.ss_family, SOCK_STREAM, 0));
  if (!socket.is_open()) return false;
  ::fcntl(socket.number(), F_SETFL, O_NONBLOCK);
  if (::connect(socket.number(), target->get(), target->size) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd waiting{socket.number(), POLLOUT, 0};
  int error = 0;
  socklen_t size = sizeof error;
  return ::poll(&waiting, 1, kConnectTimeoutMs) == 1 &&
         ::getsockopt(socket.number(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

std::vector<Route> find_routes(const std::vector<cluster::NodeReport>& nodes, const std::string& own_id) {
  std::vector<Route> routes;
  for (const cluster::NodeReport& node : nodes) {
    const auto endpoint = net::Endpoint::parse(node.address);
    if (node.id == own_id || !endpoint) continue;
    const std::string name = interface_to(*endpoint);
    if (!name.empty()) routes.push_back({node.name, name});
  }
  return routes;
}

Findings check_port(const net::Endpoint& listens, std::size_t peers) {
  if (!accepts(listens)) {
    return {{"port", Verdict::kProblem,
             std::format("nobody answers at {}, where this machine's node listens", listens.to_string()),
             "let the firewall pass this TCP port, or start the node again"}};
  }
  return {{"port", Verdict::kOk,
           std::format("this machine's node answers at {}{}", listens.to_string(),
                       peers > 0 ? "" : "; whether others reach it shows when one joins")}};
}

}  // namespace baton::cli
