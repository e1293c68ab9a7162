// A node: a device with a model, a key, connections to peers, and the requests that are under way on it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "engine/executor.h"
#include "net/transport.h"
#include "node/exchange.h"
#include "node/guesser.h"
#include "node/lease.h"
#include "node/request.h"
#include "node/session.h"

namespace baton::node {

enum class KeptPrefixes { kNone, kUntilRoomIsNeeded };

struct NodeOptions {
  std::optional<net::Endpoint> listen;                      // nothing: no peer can connect, but we can to them
  std::function<bool(const net::Fingerprint&)> is_trusted;  // who may connect, and whose requests this node works for
  // Used in place of one of its own, and must outlive the node; its peers are then handed over by adopt().
  net::Transport* transport = nullptr;
  std::optional<net::LinkEmulation> emulate_link;
  std::size_t early_hidden_bytes = kEarlyHiddenBytes;  // of one request
  std::size_t kept_bytes = kKeptBytes;                 // of one request
  KeptPrefixes kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded;
  Surroundings surroundings = {};
  // Of a small model that guesses this node's own texts, and those of others that ask (engine::open_draft_model);
  // null: none.
  std::unique_ptr<engine::Engine> draft;
};

// Lives on the loop's thread; the executor computes on its own. The loop must outlive it.
class Node {
 public:
  // Peers are refused unless they run the very same model file: `digest` is this node's.
  static Result<std::unique_ptr<Node>> create(net::EventLoop& loop, const net::Identity& identity,
                                              std::unique_ptr<engine::Executor> executor, const Sha256& digest,
                                              NodeOptions options);
  ~Node();

  // Where peers reach it, if it listens.
  std::optional<net::Endpoint> endpoint() const;

  // Takes over a connection that a peer has made to us, for work.
  void adopt(std::shared_ptr<net::Connection> connection) { exchange_->adopt(std::move(connection)); }
  // The peer may connect no more: its connections end, and so does all work with it.
  void cut_off(const net::Fingerprint& peer);

  // How many tokens of a prompt this node still has from an earlier request, and need not read again.
  std::uint32_t kept_tokens(std::span<const Token> prompt) const;

  // Starts a request of this node's own. The observer must live until its on_finished().
  Result<std::shared_ptr<Request>> submit(RequestOptions options, RequestObserver& observer);

  // Calls back once every transfer has said its last word, or after `patience`: peers that hear it need not wait for
  // us.
  void when_quiet(Duration patience, net::Task task);

  // Ends all work, this node's own and peers', tells every peer why, and calls back when they have heard it, at the
  // latest after `patience`. Nothing can be asked of the node afterwards.
  void shut_down(Duration patience, net::Task task);

  // For tests of leaks.
  std::size_t transfers() const { return exchange_->transfers(); }
  engine::Executor& executor() { return *executor_; }
  // Cells that a request could have now, and how many of them hold texts of ended requests until then.
  struct Room {
    std::uint32_t cells = 0;
    std::uint32_t kept_cells = 0;
  };
  Room room() const;
  const engine::BatchScheduler& scheduler() const { return *scheduler_; }

  // For passes that are no request's: room for so many tokens (kNoCapacity where there is none, though every kept text
  // went), and who computes.
  Result<std::shared_ptr<Workspace>> take_room(std::uint32_t tokens);
  engine::BatchScheduler& scheduler() { return *scheduler_; }

 private:
  Node(net::EventLoop& loop, const net::Identity& identity, std::unique_ptr<engine::Executor> executor,
       const Sha256& digest, const NodeOptions& options);

  Result<Exchange::OpenDecision> on_open(const handoff::Open& open, const net::Fingerprint& peer);
  Result<void> check_open(const handoff::Open& open, const net::Fingerprint& peer) const;
  // Until when this node may work for the request.
  Result<TimePoint> check_right(const handoff::Open& open) const;
  Result<std::shared_ptr<Guesser>> guesser_for(const handoff::Open& open, TimePoint lease_end);
  Result<std::shared_ptr<Session>> session_for(const handoff::Open& open, TimePoint lease_end);
  Result<std::shared_ptr<Workspace>> workspace_for(const handoff::Open& open, std::uint32_t tokens);
  void forget_ended_requests();
  void end_all_work();
  // This node's session of a request, its own or a peer's; null where there is none yet.
  Result<std::shared_ptr<Session>> known_session(const handoff::Id& request);

  const std::string fingerprint_;
  const Sha256 digest_;
  std::unique_ptr<engine::Engine> draft_;
  std::unique_ptr<engine::Executor> executor_;
  std::shared_ptr<engine::BatchScheduler> scheduler_;
  const std::function<bool(const net::Fingerprint&)> is_trusted_;
  const std::function<TimePoint()> now_;
  std::shared_ptr<PrefixCache> prefix_cache_;  // null where nothing is kept
  std::unique_ptr<net::Transport> own_transport_;
  net::Transport* transport_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<SessionHost> host_;
  std::unique_ptr<net::Listener> listener_;
  net::Timer quiet_timer_;
  std::vector<std::shared_ptr<Request>> requests_;  // of this node's own, that have not ended
  std::unordered_map<handoff::Id, std::weak_ptr<Session>, handoff::IdHash> sessions_;  // that peers have opened here
  std::vector<std::weak_ptr<Guesser>> guessers_;                                       // likewise
  LeaseBook leases_;
};

}  // namespace baton::node
