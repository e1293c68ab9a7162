// Gets a model from another member of the cluster.
#pragma once

#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "store/fetch_messages.h"
#include "store/peers.h"

namespace baton::store {

// One node that is asked, over one connection after the other, by a thread that waits. Errors: those of
// net::Transport::dial, kTimeout, kProtocol, kCancelled, and what the node itself refuses with.
class ModelTaker {
 public:
  // `peers` must outlive it.
  static Result<std::unique_ptr<ModelTaker>> create(const Peers& peers, PeerNode node, std::stop_token stop);
  ~ModelTaker();

  const std::string& node() const { return node_.name; }
  Result<Offer> ask(const std::string& name);
  // From the offer that was last given, from a byte on to the part's end.
  using OnPiece = std::function<Result<void>(ByteSpan)>;
  Result<void> read(std::uint32_t part, std::uint64_t offset, const OnPiece& on_piece);

 private:
  class Taking;

  ModelTaker(std::unique_ptr<net::EventLoop> loop, std::unique_ptr<net::Transport> transport, PeerNode node,
             std::stop_token stop);
  Result<void> connect();
  Result<void> run_until_done(Duration silence);

  std::unique_ptr<net::EventLoop> loop_;
  std::unique_ptr<net::Transport> transport_;
  PeerNode node_;
  std::stop_token stop_;
  std::shared_ptr<Taking> taking_;
};

}  // namespace baton::store
