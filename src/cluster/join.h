// Joining a cluster with a token.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/folder.h"
#include "trust/token.h"

namespace baton::cluster {

// How the node that gave the token out was found.
enum class FoundBy { kAddress, kLocalNetwork };

struct Joined {
  std::string cluster_name;
  std::string node_name;
  std::size_t nodes = 0;
  net::Endpoint met_at;
  FoundBy found_by = FoundBy::kAddress;
};

// Shows the token's key to the node that gave it out, at the addresses in the token or at those given, or where it is
// found on the local network, whichever answers first, and takes the member list and a certificate from it. This
// machine's own key is made here and never leaves. Errors: kInvalidArgument where the folder belongs to a cluster, or
// there is no address; kNoCapacity where a node runs with it; kRefused where the token was used, has expired, or
// somebody else answers; kUnavailable, kTimeout.
Result<Joined> join(const Folder& folder, const trust::JoinToken& token, const std::vector<net::Endpoint>& addresses,
                    const std::string& name, Duration patience);

}  // namespace baton::cluster
