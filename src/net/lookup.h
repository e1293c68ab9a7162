// Host names' addresses, from the system's resolver. It waits as long as it likes (mDNS, a name server that is gone)
// and cannot be told to stop, so every name has a thread of its own that nobody waits for: neither another name nor the
// loop's end.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/event_loop_impl.h"
#include "net/socket.h"

namespace baton::net {

using OnAddresses = std::move_only_function<void(Result<std::vector<Address>>)>;

// Calls back on the loop, never from inside this call, unless the loop has ended by then. Who asks for a name that is
// being looked up waits for the same answer. Errors: kNotFound; kNoCapacity where too many names are being looked up.
void look_up(const LoopHandle& loop, const Endpoint& endpoint, OnAddresses done);

}  // namespace baton::net
