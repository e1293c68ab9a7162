// The coordinator's word that a piece of work is its own: a node does nothing without one.
#pragma once

#include "base/bytes.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/fingerprint.h"

namespace baton::trust {

// A lease signs `subject`, which is all that the request's nodes are told alike: agent, model, plan with every node's
// key, limits, request, decision and the lease's lifetime. So it is worth nothing for other work, or for other nodes.
Bytes sign_lease(const SigningKey& coordinator, ByteSpan subject);

// Who signed it. Errors: kRefused for a lease that is none, of another subject, or forged.
Result<net::Fingerprint> verify_lease(ByteSpan lease, ByteSpan subject);

}  // namespace baton::trust
