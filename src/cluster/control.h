// How a command such as `baton nodes` speaks to the node that runs on this machine: over the node's own port, in TLS,
// with the node's own key, which only its owner can read. No other way in is needed.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/folder.h"
#include "cluster/membership.h"

namespace baton::cluster {

enum class Command { kNodes, kToken, kPromote, kRevoke, kLeave };

struct ControlRequest {
  Command command = Command::kNodes;
  std::string node = {};        // kPromote, kRevoke: its name, or its id's first digits
  std::int64_t lifetime_s = 0;  // kToken
};

// A node as it is shown to people and programs.
struct NodeReport {
  std::string name;
  std::string id;
  std::string role;     // "admin", "member"
  std::string status;   // peer_status_name(), or "unknown" while no node runs here
  std::string address;  // where it listens, as far as that is known
  std::string software;
  std::string problem;
  double round_trip_ms = 0;
  NodeState state;
};

struct ControlAnswer {
  std::string token;
  std::string cluster;  // its name
  std::string cluster_id;
  std::uint64_t epoch = 0;
  std::vector<NodeReport> nodes;
  std::vector<std::string> stay;  // kRevoke: by name, whom the revoked node had let in or made admins
};

// The cluster as a node sees it, without a token.
ControlAnswer report(const Membership& membership);

// Asks the node that runs with this folder. kUnavailable where none does; what it refuses comes as its own error.
Result<ControlAnswer> ask(const Folder& folder, const ControlRequest& request, Duration patience);

// What the folder alone knows: every node's status is "unknown". kNotFound where it belongs to no cluster.
Result<ControlAnswer> ask_folder(const Folder& folder);

// Takes this machine out of a cluster that has no other node, where no node runs with the folder. kUnavailable where
// others would have to hear of it, kNotFound where it belongs to no cluster, kNoCapacity where a node runs.
Result<void> leave_alone(const Folder& folder);

// Lets a running node answer. It must outlive the membership's use of it.
void answer_commands(Membership& membership);

}  // namespace baton::cluster
