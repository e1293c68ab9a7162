// Host names' addresses, from the system's resolver. It waits as long as it likes (mDNS, a name server that is gone)
// and cannot be told to stop, so every name has a thread of its own that nobody waits for: neither another name nor the
// loop's end.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/event_loop_impl.h"
#include "net/socket.h"

namespace baton::net {

using OnAddresses = std::move_only_function<void(Result<std::vector<Address>>)>;

// Calls back on the loop, never from inside this call, for as long as what it returns is held and the loop has not
// ended; `done` goes with what it returns. Who asks for a name that is being looked up waits for the same answer.
// Errors: kNotFound; kNoCapacity where too many names are being looked up.
using Lookup = std::shared_ptr<OnAddresses>;
[[nodiscard]] Lookup look_up(const LoopHandle& loop, const Endpoint& endpoint, OnAddresses done);

// For tests: how many wait for that name, whether they still want it or not.
std::size_t waiting_for(const std::string& host);

}  // namespace baton::net
