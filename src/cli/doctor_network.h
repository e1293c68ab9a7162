// What `baton doctor` asks the network itself.
#pragma once

#include <vector>

#include "cli/doctor_checks.h"
#include "net/endpoint.h"

namespace baton::cli {

// The interface over which the system would send to each node now; one that cannot be reached at all is left out.
std::vector<Route> find_routes(const std::vector<cluster::NodeReport>& nodes, const std::string& own_id);

// Whether this machine's node answers where it listens, and whether others can reach that at all.
Findings check_port(const net::Endpoint& listens, std::size_t peers);

}  // namespace baton::cli
