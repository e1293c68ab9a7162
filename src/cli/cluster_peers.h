// The other nodes of this machine's cluster, for a command that runs beside its node and lets them work.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cluster/control.h"
#include "cluster/folder.h"
#include "net/transport.h"
#include "plan/plan.h"

namespace baton::cli {

class ClusterPeers {
 public:
  // Of no cluster.
  explicit ClusterPeers(const net::Fingerprint& self)
      : self_{.name = {}, .address = {}, .fingerprint = self.to_string()} {}
  // What the folder knows, and where the node that runs with it, if one does, has met the others. No nodes where this
  // machine belongs to no cluster. Errors: kCorrupt, kIo of the folder's files.
  static Result<ClusterPeers> read(const cluster::Folder& folder);

  // This machine, by the name that it has in its cluster; an empty one where it belongs to none.
  const plan::NodeRef& self() const { return self_; }

  // By name; one whose address is not known is left out.
  const std::vector<plan::NodeRef>& nodes() const { return nodes_; }

  // All nodes of the cluster with what they tell of themselves, as the node that runs on this machine has heard it;
  // none where none runs.
  const std::vector<cluster::NodeReport>& reports() const { return reports_; }

  // Shows the cluster's certificate, and takes from a member only work under a good one. A peer that is no member is
  // known by its fingerprint alone.
  Result<std::unique_ptr<net::Transport>> transport(net::EventLoop& loop, const net::Identity& identity,
                                                    std::optional<net::LinkEmulation> emulation) const;

 private:
  std::optional<trust::MemberList> list_;
  Bytes certificate_;
  plan::NodeRef self_;
  std::vector<plan::NodeRef> nodes_;
  std::vector<cluster::NodeReport> reports_;
};

}  // namespace baton::cli
