#include "net/listen_check.h"

#include <vector>

#include "net/acceptor.h"

namespace baton::net {

Result<void> check_listening(std::span<const Endpoint> endpoints) {
  boost::asio::io_context context;
  // Kept until the last is open, for two of them may be the same.
  std::vector<Acceptor> acceptors;
  for (const Endpoint& endpoint : endpoints) acceptors.push_back(TRY(open_acceptor(context, endpoint)));
  return {};
}

}  // namespace baton::net
