// The addresses that this machine has.
#pragma once

#include <string>
#include <vector>

namespace baton::net {

// Of every interface that is up: IPv4, then IPv6, numeric, without loopback and without addresses that count on one
// link alone. Empty where there is no network.
std::vector<std::string> interface_addresses();

}  // namespace baton::net
