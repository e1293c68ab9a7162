// Whether this process may listen, before anything depends on it.
#pragma once

#include <span>

#include "base/result.h"
#include "net/endpoint.h"

namespace baton::net {

// Listens at all of them for a moment and lets go again: who asks early spares its user what would be undone later.
// Another program may still come between. Errors: kIo where an address is taken, twice among these or not this
// machine's; kNotFound where a host has no address.
Result<void> check_listening(std::span<const Endpoint> endpoints);

}  // namespace baton::net
