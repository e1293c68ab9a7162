// A model on this machine's device, and all that is under way with it: the node's own requests and the work that peers
// have opened here. Made by Node::add(), and lives on the loop's thread; the executor computes on its own.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/executor.h"
#include "net/fingerprint.h"
#include "node/guesser.h"
#include "node/request.h"
#include "node/session.h"

namespace baton::node {

enum class KeptPrefixes { kNone, kUntilRoomIsNeeded };

// Of the texts that are written when a model is unloaded or its node ends, whichever models it has: service managers
// wait no longer for the whole process (systemd 90 s).
inline constexpr Duration kLastWritesTime = std::chrono::seconds(60);

// What a loaded model is made of, and what is left of it.
struct ModelParts {
  std::unique_ptr<engine::Executor> executor;
  Sha256 digest;
  // Of a small model that guesses this node's own texts, and those of others that ask (engine::open_draft_model);
  // null: none.
  std::unique_ptr<engine::Engine> draft;
  double prefill_tokens_per_s = 0;  // as measured; 0: unknown
  // Of one that was taken apart: what still reads from its engine.
  LastWrites last_writes = {};
};

// What it needs of its node, which outlives it.
struct ModelSurroundings {
  net::EventLoop& loop;
  Exchange& exchange;
  std::string fingerprint;  // the node's
  SigningKey lease_key;
  std::size_t early_hidden_bytes = kEarlyHiddenBytes;
  std::size_t kept_bytes = kKeptBytes;
  KeptPrefixes kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded;
  std::shared_ptr<KeptFolder> kept_folder = nullptr;  // where kept prefixes go that need room; null: nowhere
  Surroundings surroundings = {};
};

class LoadedModel {
 public:
  LoadedModel(ModelParts parts, ModelSurroundings surroundings);
  // Ends all work. Transfers that still say goodbye need nothing of it.
  ~LoadedModel();
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  const Sha256& digest() const { return parts_.digest; }

  // Starts a request of this node's own. The observer must live until its on_finished().
  Result<std::shared_ptr<Request>> submit(RequestOptions options, RequestObserver& observer);
  // How many tokens of a prompt this node still has from an earlier request, and need not read again.
  std::uint32_t kept_tokens(std::span<const Token> prompt) const;
  // Whether the request had better wait: its prompt begins like a text on disk, which is being read back. Ask again
  // with the same `reading`, null at first; what was read back waits as any kept text does. It takes no longer than
  // about twice what computing it would, and is given up once nobody holds `reading`.
  bool is_reading_back(const RequestOptions& options, std::shared_ptr<const ReadingBack>& reading);
  // Brings kept texts to disk that would go next. Call it now and then.
  void write_ahead();

  engine::Executor& executor() { return *parts_.executor; }
  const engine::Engine& engine() const { return parts_.executor->engine(); }
  const engine::BatchScheduler& scheduler() const { return *scheduler_; }
  // Cells that a request could have now, and how many of them hold texts of ended requests until then.
  struct Room {
    std::uint32_t cells = 0;
    std::uint32_t kept_cells = 0;
  };
  Room room() const;

  // For passes that are no request's: room for so many tokens (kNoCapacity where there is none, though every kept text
  // went), and who computes. They count as use of the model only while their own hold() of it lasts.
  Result<std::shared_ptr<Workspace>> take_room(std::uint32_t tokens);
  engine::BatchScheduler& scheduler() { return *scheduler_; }
  std::shared_ptr<const void> hold() const { return host_->use; }

  // Whether a request or a peer's work uses it, if only to say its last word.
  bool is_used();
  // Takes no new work any more: kNoCapacity for whoever asks.
  void retire() { retired_ = true; }
  bool retired() const { return retired_; }

  // For its node.
  const handoff::Widths& widths() const { return host_->widths; }
  Result<void> check_open(const handoff::Open& open, const net::Fingerprint& peer) const;
  Result<std::shared_ptr<Guesser>> guesser_for(const handoff::Open& open, TimePoint lease_end);
  Result<std::shared_ptr<Session>> session_for(const handoff::Open& open, TimePoint lease_end);
  void end_all_work(const Error& error);
  // Ends what that node takes part in.
  void end_work_with(const std::string& fingerprint, const Error& error);
  // Of one that is not used, whose end this is.
  ModelParts take_apart();
  // Nobody asks anything of it any more: what it keeps begins to go to disk, and its end waits for that until then.
  void begin_last_writes(TimePoint until);

 private:
  Result<std::shared_ptr<Workspace>> workspace_for(const handoff::Open& open, std::uint32_t tokens);
  void forget_ended_requests();
  void end_late_readings();
  // This node's session of a request, its own or a peer's; null where there is none yet.
  Result<std::shared_ptr<Session>> known_session(const handoff::Id& request);
  Result<void> check_taken() const;

  ModelParts parts_;
  const std::string fingerprint_;
  std::shared_ptr<engine::BatchScheduler> scheduler_;
  std::shared_ptr<PrefixCache> prefix_cache_;  // null where nothing is kept
  std::unique_ptr<SessionHost> host_;
  net::Timer late_readings_;
  const TimePoint began_;
  std::vector<std::shared_ptr<Request>> requests_;  // of this node's own, that have not ended
  std::unordered_map<handoff::Id, std::weak_ptr<Session>, handoff::IdHash> sessions_;  // that peers have opened here
  std::vector<std::weak_ptr<Guesser>> guessers_;                                       // likewise
  bool retired_ = false;
};

}  // namespace baton::node
