// What a request's lease is bound to (docs/formats/membership.md).
#pragma once

#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "handoff/messages.h"
#include "net/fingerprint.h"
#include "trust/lease.h"

namespace baton::node {

// What every Open of one request says alike: without its sender, its receiver and what it allows to be in flight.
handoff::Open common_part(handoff::Open open);

// Signed by the request's coordinator when all but the lease is filled in.
Bytes lease_for(const handoff::Open& open, const SigningKey& coordinator);

// kRefused unless the plan's coordinator signed the lease for this very request.
Result<void> check_lease(const handoff::Open& open);

// When each request's lease ends here: counted from when this node first worked for it, so asking again does not
// prolong it. Leases that have ended are remembered too, and forgotten only where their coordinator needs the room:
// then a node of the plan could use one of them again, until the coordinator is cut off.
class LeaseBook {
 public:
  static constexpr std::size_t kMaxOfOneCoordinator = 1 << 16;

  // The lease must have passed check_lease(). Errors: kRefused where it has run out, kNoCapacity where its coordinator
  // has too many that have not.
  Result<TimePoint> end_of(const handoff::Open& open, TimePoint now) const;
  // Work has begun, after end_of() at the same time. A second time changes nothing.
  void note(const handoff::Open& open, TimePoint now);
  // By its fingerprint: it may have no more work done.
  void forget(const std::string& coordinator) { ends_.erase(coordinator); }

 private:
  using Ends = std::unordered_map<handoff::Id, TimePoint, handoff::IdHash>;  // by request
  std::unordered_map<std::string, Ends> ends_;                               // by coordinator
};

}  // namespace baton::node
