#include "net/acceptor.h"

#include <boost/asio/ip/v6_only.hpp>
#include <format>
#include <string>

#include "net/socket.h"

namespace baton::net {

namespace {

namespace ip = boost::asio::ip;
using boost::system::error_code;

enum class IpVersions { kOne, kBoth };

Result<Address> address_to_bind(boost::asio::io_context& context, const Endpoint& endpoint) {
  if (const auto numeric = numeric_address(endpoint)) return *numeric;
  error_code error;
  ip::tcp::resolver resolver(context);
  const auto found = resolver.resolve(endpoint.host, std::to_string(endpoint.port), ip::resolver_base::passive, error);
  if (error || found.empty()) {
    return fail(ErrorCode::kNotFound, std::format("cannot listen at {}: no such host", endpoint.to_string()));
  }
  return found.begin()->endpoint();
}

error_code bind_and_listen(Acceptor& acceptor, const Address& address, IpVersions versions) {
  error_code error;
  acceptor.open(address.protocol(), error);
  if (!error) acceptor.set_option(Acceptor::reuse_address(true), error);
  if (!error && versions == IpVersions::kBoth) acceptor.set_option(ip::v6_only(false), error);
  if (!error) acceptor.bind(address, error);
  if (!error) acceptor.listen(Acceptor::max_listen_connections, error);
  error_code ignored;
  if (error && acceptor.is_open()) acceptor.close(ignored);
  return error;
}

}  // namespace

Result<Acceptor> open_acceptor(boost::asio::io_context& context, const Endpoint& endpoint) {
  Acceptor acceptor(context);
  error_code error;
  if (endpoint.host.empty()) {
    error = bind_and_listen(acceptor, Address(ip::address_v6::any(), endpoint.port), IpVersions::kBoth);
    // A machine without IPv6.
    const bool no_ipv6 = error == boost::asio::error::address_family_not_supported ||
                         error == boost::system::errc::address_not_available;
    if (no_ipv6) error = bind_and_listen(acceptor, Address(ip::address_v4::any(), endpoint.port), IpVersions::kOne);
  } else {
    error = bind_and_listen(acceptor, TRY(address_to_bind(context, endpoint)), IpVersions::kOne);
  }
  if (!error) return acceptor;
  const bool taken = error == boost::asio::error::address_in_use;
  return fail(ErrorCode::kIo, std::format("cannot listen at {}: {}{}", endpoint.to_string(), error.message(),
                                          taken ? "; end the program that listens there, or choose another port" : ""));
}

}  // namespace baton::net
