// A listening socket, for every server of this program, so that all say the same where they cannot have one.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/result.h"
#include "net/endpoint.h"

namespace baton::net {

using Acceptor = boost::asio::ip::tcp::acceptor;

// Binds and listens at once; an empty host takes every address of this machine, IPv6 and IPv4. `context` must outlive
// it. Errors: kIo where the address is taken or not this machine's, kNotFound where the host has no address.
Result<Acceptor> open_acceptor(boost::asio::io_context& context, const Endpoint& endpoint);

}  // namespace baton::net
