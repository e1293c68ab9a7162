// One request's work on one node: its stage of the prefill, its stage of the decode, or both, as the plan says.
// Input comes as tokens or hidden states, K and V from the nodes that prefilled this node's decode layers; output goes
// as hidden states to the next stage, as K and V to the nodes that decode this node's layers, as logits to the
// coordinator. The coordinator's own share of a request is a Session like any other. Lives on the loop's thread; passes
// run on the executor's.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/chunk_grid.h"
#include "base/ed25519.h"
#include "engine/batch_scheduler.h"
#include "engine/executor.h"
#include "handoff/flow.h"
#include "node/exchange.h"
#include "node/pass_pace.h"
#include "node/prefix_cache.h"
#include "node/workspace.h"

namespace baton::node {

// Hidden states that a session takes in before their turn, as floats. Those beyond it stay in the transfer's staging
// (handoff::ReceiverLimits) and use up the sender's credit, so that a peer cannot fill a node's memory; the next in
// turn is taken in whatever its size.
inline constexpr std::size_t kEarlyHiddenBytes = 64 << 20;

// Copies that wait until their receiver has them: coded slices, hidden states, recurrent states, rows of a window. With
// more than this no chunk is begun, so that a slow link or a receiver that is late fills no memory; a chunk that runs
// is finished.
inline constexpr std::size_t kKeptBytes = 256 << 20;

// What a session needs of its node; outlives it.
struct SessionHost {
  net::EventLoop& loop;
  engine::Executor& executor;
  engine::BatchScheduler& scheduler;
  Exchange& exchange;
  handoff::Widths widths;
  Surroundings surroundings = {};
  std::size_t early_hidden_bytes = kEarlyHiddenBytes;
  std::size_t kept_bytes = kKeptBytes;
  engine::Engine* draft = nullptr;  // of a small model that guesses; its passes run on the executor too
  // Signs the leases of this node's own requests; without it nobody else works for them.
  std::optional<SigningKey> lease_key = std::nullopt;
  // Where ended requests leave their rows; gone where nothing is kept.
  std::weak_ptr<PrefixCache> prefix_cache = {};
  // Held by every session and request: by nobody else where none is left.
  std::shared_ptr<const void> use = std::make_shared<char>();
  // What earlier requests have shown, so that the next one's first layer is not waited for as on a slow machine.
  PassPace prefill_pace = {};
  PassPace decode_pace = {};
};

// Told to the coordinator only; on the loop's thread.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  // Logits of the last position of the prompt, then of each step: a row for each of its tokens, the first's at
  // `position`.
  virtual void on_logits(std::uint32_t position, std::span<const float> logits) = 0;
  virtual void on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) = 0;
  // Once; the session has stopped and given everything back but its cells.
  virtual void on_failed(const Error& error) = 0;
};

// Filled in as the request goes along; times on this machine's clock.
struct SessionTimes {
  std::optional<TimePoint> accepted;              // by every other node; computing has begun by then at the latest
  std::optional<TimePoint> last_prefill_compute;  // here, or at another node as its Done said
  std::optional<TimePoint> kv_complete;           // the last K and V of the prompt came from another node
  engine::EmulationReport prefill_emulation;      // of this node's passes, where its device is emulated
  engine::EmulationReport decode_emulation;
  bool peer_emulated = false;  // some other node's device is emulated
  double peer_overrun = 0;     // the worst of their prefills
};

class Session : public TransferOwner, public std::enable_shared_from_this<Session> {
 public:
  // `open` tells all about the request; its sender and receiver do not matter here. It must have passed check().
  // `self` is this node's index in the plan. The workspace's sequence has room for the prompt and max_new_tokens, and
  // holds what this node's stages need of its held() tokens. These may be fewer than open.prefix_tokens, where this
  // node's prefill is the plan's first stage, and more than those only where nothing flows from here.
  // `observer` may be null, and must outlive the session or be taken away by stop().
  static std::shared_ptr<Session> create(SessionHost& host, handoff::Open open, plan::NodeIndex self,
                                         std::shared_ptr<Workspace> workspace, SessionObserver* observer);

  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Another node's work: the lease ends then, and with it the session. Before begin().
  void end_by(TimePoint lease_end) { lease_end_ = lease_end; }
  // The prompt is known: opens the transfers this node receives, and computes as soon as there is input.
  void begin(std::vector<Token> prompt);
  // Coordinator: decode these tokens, the first at `position`; their logits come to the observer. More than one only
  // where this node decodes alone: those behind the first may be taken back, by a step at an earlier position. One step
  // at a time.
  void step(std::uint32_t position, std::span<const Token> tokens);
  // Coordinator: nothing more is wanted of anybody.
  void finish();
  // Ends all work at once and tells every node involved. Nothing is observed afterwards.
  void stop(const Error& error);

  // kRefused where the request is over or has a transfer to that node.
  Result<void> check_serves(plan::NodeIndex to) const;
  // A node takes from us, for which check_serves() held: its transfer gets all that was and will be made for it.
  void serve(const std::shared_ptr<OutgoingTransfer>& transfer);

  const handoff::Open& open() const { return open_; }
  plan::NodeIndex self() const { return self_; }
  // Whether it read the prompt in smaller chunks than the request's.
  bool was_cut() const { return cut_; }
  // After it failed or was stopped: all layers were in this node's cache up to here, a border of the chunk grid or the
  // prompt's end, as far as other nodes sent them (Workspace::can_continue_at tells whether the cache still has what a
  // window needs); 0 where some are elsewhere.
  std::uint32_t salvage_position() const { return salvage_position_; }
  // After the coordinator's failed or was stopped: the same of the one other node that was to decode, as far as the
  // progress of those that read tells; 0 where no other was.
  std::uint32_t read_for_writer() const { return read_for_writer_; }
  // The same while it goes on.
  std::uint32_t held_position() const { return least_position(&handoff::Receiver::salvage_position); }
  const SessionTimes& times() const { return times_; }
  // Tokens of the prompt that the node which accepted last has from earlier requests.
  std::uint32_t kept_elsewhere() const { return kept_elsewhere_; }
  // After it failed: whose fault it was; nothing where it was this node's own.
  std::optional<plan::NodeIndex> failed_node() const { return failed_node_; }
  // For tests: how much is in the inbox of hidden states, and how much waits until its receiver has it.
  std::size_t hidden_inbox_bytes() const { return hidden_inbox_bytes_; }
  std::size_t kept_bytes() const { return workspace_ ? workspace_->kept_bytes() : 0; }
  // Of every transfer this session receives, by the node that sends.
  std::map<plan::NodeIndex, handoff::TransferStats> transfer_stats() const;

  void on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) override;
  void on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) override;
  void on_unreachable(IncomingTransfer& transfer, const Error& error) override;
  std::shared_ptr<const void> keep_alive(ByteSpan payload) override;

 private:
  enum class Phase { kPrefill, kDecode };
  // A forward pass over this node's layers of a phase: one chunk of the prompt, or one step.
  class Pass;

  Session(SessionHost& host, handoff::Open open, plan::NodeIndex self, std::shared_ptr<Workspace> workspace,
          SessionObserver* observer);

  const plan::Stages& stages(Phase phase) const;
  const plan::Stage* stage(Phase phase) const;
  void open_incoming();
  bool prefill_complete(plan::NodeIndex from) const;
  using PositionOf = std::uint32_t (handoff::Receiver::*)() const;
  std::uint32_t least_position(PositionOf of_transfer) const;
  std::uint32_t told_to_be_read() const;
  // Whom a transfer's end is to be blamed on, and with which words.
  struct Blame {
    plan::NodeIndex node = 0;
    Error error;
  };
  Blame blame_for(const IncomingTransfer& transfer, const handoff::ReceiverEnded& over) const;
  // Whether this node, having lost another, goes on with the prefill alone.
  bool may_resume_alone() const;
  void commit_complete();
  void fail_with(const Error& error, std::optional<plan::NodeIndex> node = std::nullopt);
  // The session may outlive its work, as long as a transfer says goodbye; its cells are given back before.
  void release_cells();
  // A peer's request leaves its rows to the node's cache; the coordinator's Request, which knows the text, does so
  // itself.
  void leave_cells();
  std::vector<Chunk> own_chunks() const;
  // Below the prefix a node computes for itself alone.
  bool flows(Chunk chunk) const { return chunk.first_position >= open_.prefix_tokens; }

  // session_compute.cpp
  bool has_input(const plan::Stage& stage, std::uint32_t position) const;
  bool decode_ready() const;
  bool keeps_too_much() const { return workspace_->kept_bytes() > host_.kept_bytes; }
  void pump();
  void cut_next_chunk();
  void submit(const std::shared_ptr<Pass>& pass);
  // From a pass's beginning to its first sign of life.
  model::Cost first_piece_cost(const Pass& pass) const;
  PassPace& pace(Phase phase) const { return phase == Phase::kPrefill ? host_.prefill_pace : host_.decode_pace; }
  Duration expected(Phase phase, const model::Cost& piece) const;
  void on_pass_begun(Phase phase, const model::Cost& piece, TimePoint at);
  // What a layer keeps and must leave, but will not stay in the cache: copied between two layers.
  struct Leaving {
    Bytes state;                                // empty where there is none, or nobody wants it
    bool stays = false;                         // this node may want to go on from there, too
    std::optional<Workspace::CopiedRows> rows;  // nothing where they can be read later
  };
  Result<Leaving> copy_what_leaves(const Pass& pass, std::uint32_t layer) const;
  void on_layer_done(Chunk chunk, std::uint32_t layer, Result<Leaving> leaving, TimePoint at);
  void on_pass_done(const Pass& pass, const Result<void>& result,
                    const std::optional<engine::EmulationReport>& emulation);

  // session_send.cpp
  void send_kept(Chunk chunk, std::uint32_t layer, Leaving leaving, plan::NodeIndex to);
  void send_rows(Chunk chunk, std::uint32_t layer, std::optional<Workspace::CopiedRows> copied, plan::NodeIndex to);
  void send_hidden(const Pass& pass, plan::NodeIndex to);
  void send_logits(const Pass& pass);
  void send(plan::NodeIndex to, const handoff::OfferedSlice& slice);
  void offer(OutgoingTransfer& transfer, const handoff::OfferedSlice& slice);
  void release(plan::NodeIndex to, const handoff::SliceKey& key);
  void finish_prefill();
  void finish_prefill_of(OutgoingTransfer& transfer);
  void report_progress();

  // session_receive.cpp
  void on_slice(IncomingTransfer& transfer, const handoff::SliceReady& slice);
  Result<void> take_kv(const handoff::SliceReady& slice);
  bool has_room_for(const handoff::SliceReady& slice) const;
  Result<void> take_state(const handoff::SliceReady& slice);
  Result<void> take_hidden(const handoff::SliceReady& slice);
  void take_staged_hidden();
  void logits_arrived(std::uint32_t position, std::span<const float> logits);
  void report_prefilled();

  SessionHost& host_;
  const std::shared_ptr<const void> use_of_host_;
  handoff::Open open_;
  const plan::NodeIndex self_;
  const std::uint32_t layers_;
  const std::weak_ptr<PrefixCache> host_cache_;  // the host may be gone when the session goes
  const HeldTokens held_;                        // at the beginning
  const std::uint32_t unsent_chunk_tokens_;      // what nobody waits for may be computed as is fastest
  std::shared_ptr<Workspace> workspace_;
  SessionObserver* observer_;

  std::vector<Token> prompt_;
  std::vector<Chunk> chunks_;
  bool cut_ = false;               // some are smaller than the request's
  std::uint32_t last_border_ = 0;  // where the last of them began, before any was cut
  bool begun_ = false;
  TimePoint begun_at_;
  bool ended_ = false;
  bool finishing_ = false;
  std::atomic<bool> cancelled_ = false;  // read by the executor between layers

  std::size_t next_chunk_ = 0;  // to be submitted
  std::size_t chunks_done_ = 0;
  std::size_t in_flight_ = 0;  // with the scheduler, or computing
  bool computing_ = false;
  std::uint32_t next_position_ = 0;  // of the next decode step
  std::deque<std::vector<Token>> steps_;
  std::vector<Token> stepped_;  // by this node, for another: what it has computed behind the prompt
  std::map<std::uint32_t, std::vector<float>> hidden_inbox_;  // by first position
  std::size_t hidden_inbox_bytes_ = 0;
  // What found no room in the inbox yet, by first position.
  struct StagedHidden {
    plan::NodeIndex from = 0;
    handoff::SliceReady slice;
  };
  std::map<std::uint32_t, StagedHidden> staged_hidden_;
  std::size_t unacknowledged_hidden_ = 0;  // sent to the next stage, which has not taken them in

  std::map<plan::NodeIndex, std::weak_ptr<OutgoingTransfer>> outgoing_;
  std::map<plan::NodeIndex, std::weak_ptr<IncomingTransfer>> incoming_;
  std::size_t accepted_ = 0;
  std::uint32_t kept_elsewhere_ = 0;
  bool logits_seen_ = false;
  std::set<plan::NodeIndex> committed_;
  // Slices computed before their receiver opened its transfer.
  std::map<plan::NodeIndex, std::vector<handoff::OfferedSlice>> unclaimed_;
  std::map<std::pair<plan::NodeIndex, handoff::SliceKey>, ByteSpan> unacknowledged_;  // each slice's first part
  std::map<plan::NodeIndex, handoff::TransferStats> ended_transfers_;                 // by their senders

  std::uint64_t work_counter_ = 0;
  Duration expected_{};    // until the counter moves
  TimePoint last_sign_{};  // of the pass that computes
  SessionTimes times_;
  std::uint32_t salvage_position_ = 0;  // when it failed
  std::uint32_t read_for_writer_ = 0;
  std::optional<plan::NodeIndex> failed_node_;
  std::optional<TimePoint> lease_end_;  // nothing for this node's own work
  net::Timer lease_;
};

}  // namespace baton::node
