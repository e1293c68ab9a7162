// Plain TCP sockets, set up for frames. For the sources of this room.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include "base/result.h"
#include "net/endpoint.h"

namespace baton::net {

using Socket = boost::asio::ip::tcp::socket;
using Address = boost::asio::ip::tcp::endpoint;

// Non-blocking, no delay, keep-alive, and little unsent data in the system's buffer, so that an urgent frame never
// queues behind much. `socket` is open.
Result<void> prepare_socket(Socket& socket);

Endpoint endpoint_of(const Address& address);

// The addresses of a numeric host, without asking a name server; nothing when it is a name.
std::optional<Address> numeric_address(const Endpoint& endpoint);

}  // namespace baton::net
