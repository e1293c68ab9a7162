// A node: a key, connections to peers, and the models that are loaded on this machine's device.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/transport.h"
#include "node/exchange.h"
#include "node/lease.h"
#include "node/loaded_model.h"

namespace baton::node {

struct NodeOptions {
  std::optional<net::Endpoint> listen;                      // nothing: no peer can connect, but we can to them
  std::function<bool(const net::Fingerprint&)> is_trusted;  // who may connect, and whose requests this node works for
  // Used in place of one of its own, and must outlive the node; its peers are then handed over by adopt().
  net::Transport* transport = nullptr;
  std::optional<net::LinkEmulation> emulate_link;
  // Why a peer's work for a model is refused that is not loaded. Empty: because this node has no such model.
  std::function<std::optional<Error>(const Sha256& model)> why_not_loaded;
  std::size_t early_hidden_bytes = kEarlyHiddenBytes;  // of one request
  std::size_t kept_bytes = kKeptBytes;                 // of one request
  KeptPrefixes kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded;
  std::shared_ptr<KeptFolder> kept_folder = nullptr;  // where kept prefixes go that need room; null: nowhere
  Surroundings surroundings = {};
};

// Lives on the loop's thread. The loop must outlive it.
class Node {
 public:
  static Result<std::unique_ptr<Node>> create(net::EventLoop& loop, const net::Identity& identity, NodeOptions options);
  ~Node();

  // From now on there are requests with this model, and work for peers that have the very same file. Not one that is
  // there already. What is returned lives until remove().
  LoadedModel& add(ModelParts parts);
  // Only one that is not used. Gives back what it was made of, which may take its time to go.
  ModelParts remove(LoadedModel& model);
  // In the order in which they were loaded.
  std::span<const std::unique_ptr<LoadedModel>> models() const { return models_; }

  // Takes away from the disk what it has of a model's texts.
  void forget_kept_texts(const Sha256& model);

  // Where peers reach it, if it listens.
  std::optional<net::Endpoint> endpoint() const;

  // Takes over a connection that a peer has made to us, for work.
  void adopt(std::shared_ptr<net::Connection> connection) { exchange_->adopt(std::move(connection)); }
  // The peer may connect no more: its connections end, and so does all work with it.
  void cut_off(const net::Fingerprint& peer);

  // Calls back once every transfer has said its last word, or after `patience`: peers that hear it need not wait for
  // us.
  void when_quiet(Duration patience, net::Task task);

  // Ends all work, this node's own and peers', tells every peer why, and calls back when they have heard it, at the
  // latest after `patience`. Nothing can be asked of the node afterwards.
  void shut_down(Duration patience, net::Task task);

  std::size_t transfers() const { return exchange_->transfers(); }

 private:
  Node(net::EventLoop& loop, const net::Identity& identity, NodeOptions options);

  Result<LoadedModel*> model_for(const handoff::Open& open) const;
  Result<Exchange::OpenDecision> on_open(const handoff::Open& open, const net::Fingerprint& peer);
  // Until when this node may work for the request.
  Result<TimePoint> check_right(const handoff::Open& open) const;
  void end_all_work();

  net::EventLoop& loop_;
  const std::string fingerprint_;
  const SigningKey lease_key_;
  const NodeOptions options_;
  std::unique_ptr<net::Transport> own_transport_;
  net::Transport* transport_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<net::Listener> listener_;
  net::Timer quiet_timer_;
  LeaseBook leases_;
  std::vector<std::unique_ptr<LoadedModel>> models_;
};

}  // namespace baton::node
