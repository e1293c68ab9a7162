// What a request's lease is bound to (docs/formats/membership.md).
#pragma once

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

}  // namespace baton::node
