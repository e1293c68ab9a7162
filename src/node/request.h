// A request from the coordinator's side: runs its plan, samples its tokens, and goes on by another plan when a node
// fails.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/emulation.h"
#include "engine/sampler.h"
#include "node/session.h"
#include "node/speculator.h"
#include "text/token_filter.h"

namespace baton::node {

enum class EndTokens { kStop, kIgnore };

// The first tokens of a text, whose rows another node has in all layers, as far as anybody knows.
struct HeldElsewhere {
  std::string fingerprint;  // of that node's key
  std::uint32_t tokens = 0;
};

// Where a text stands when a node of its plan was lost.
struct Loss {
  std::vector<std::string> lost;  // all nodes that this request has lost so far, by their keys' fingerprints
  std::vector<Token> text;        // the prompt, and what was written behind it: what has to be read to go on
  std::uint32_t held_tokens = 0;  // of them, the first, whose rows this node has in all layers
  std::uint32_t tokens_left = 1;  // to be written at most
  std::optional<HeldElsewhere> held_elsewhere = std::nullopt;  // by the node that was to write
};

struct RequestOptions {
  std::vector<Token> prompt;
  std::uint32_t max_new_tokens = 0;
  engine::SamplerOptions sampler;
  std::shared_ptr<text::TokenFilter> filter;  // what the text must keep to, where it must; used on the loop's thread
  std::vector<Token> end_tokens;              // these end the text and are not part of it
  plan::Plan plan;
  // Of the prompt, that the one other node may hold which does all by the plan, as far as anybody knows.
  std::optional<std::uint32_t> kept_elsewhere;
  std::uint32_t chunk_tokens = 512;
  handoff::DType codec = handoff::DType::kF16;
  handoff::DType hidden = handoff::DType::kF32;
  // With kDeterministic a recovered request recomputes its tokens in the shapes that first made them.
  handoff::Determinism determinism = handoff::Determinism::kFast;
  Speculation speculation = Speculation::kAuto;
  std::optional<plan::NodeRef> draft_on;  // whose draft model guesses; nothing: this node's
  // Chooses the plan by which the text goes on after a loss. Called on the loop's thread. Where there is nobody to ask,
  // or the answer is nothing, this node goes on alone. Where it is set, the first plan was its choice too.
  std::function<std::optional<plan::Plan>(const Loss&)> replan;
  std::string label;
};

// Wall-clock seconds from submit() on, as the coordinator sees them.
struct RequestTimings {
  double queue_s = 0;             // until every node had accepted, of the first plan that all accepted
  double prefill_s = 0;           // until the last layer of the last chunk was computed, wherever
  double exposed_transfer_s = 0;  // from then until the prompt's whole KV was where it is decoded
  double first_token_s = 0;
  double decode_s = 0;  // from the first token to the last
  double total_s = 0;
};

// What crossed the network to this node.
struct TransferSummary {
  std::uint64_t slices = 0;
  std::uint64_t payload_bytes = 0;
  double transfer_s = 0;  // sum over slices of (last byte received - first byte sent)
  std::uint32_t connections = 0;
};

// A plan that was given up because a node failed, and the one by which the text went on. Seconds from submit() on.
struct Recovery {
  Error error;
  std::optional<plan::NodeRef> lost;  // the plan's node at fault; nothing: this one
  std::string plan;
  plan::Plan replanned;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t text_tokens = 0;  // the prompt, and what of the answer had to be read with it
  // Of them, the first, which the new plan does not compute again, wherever they are.
  std::uint32_t salvaged_tokens = 0;
  std::optional<HeldElsewhere> held_elsewhere = std::nullopt;  // by a node that the old plan had left
  double progress_s = 0;                                       // the last piece of the prompt or token by the old plan
  double failed_s = 0;                                         // it was given up
  double next_token_s = 0;                                     // the first token since; 0: none came
  // Between the last that the old plan gave and the first token by the new one.
  double cost_s() const { return next_token_s > 0 ? next_token_s - progress_s : 0; }
};

struct RequestReport {
  std::vector<Token> tokens;
  std::uint32_t cached_tokens = 0;  // of the prompt, kept from earlier requests and neither computed nor sent again
  RequestTimings timings;
  plan::Plan plan;                                       // by which the answer was finished
  TransferSummary transfer;                              // of all plans and peers
  std::map<std::string, TransferSummary> transfer_from;  // by the peer's name
  std::vector<Recovery> recoveries;
  SpeculationReport speculation;
  bool emulated = false;  // some node's device is emulated
  // How much of each phase real work was late on an emulated device, here or (prefill only) elsewhere.
  double prefill_overrun = 0;
  double decode_overrun = 0;
  bool emulation_valid() const {
    return prefill_overrun <= engine::kMaxOverrunFraction && decode_overrun <= engine::kMaxOverrunFraction;
  }
};

// Called on the loop's thread.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  virtual void on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) = 0;
  // What a token is about to be chosen from: the logits at the position before it.
  virtual void on_logits(std::span<const float> logits) { (void)logits; }
  virtual void on_token(Token token) = 0;
  // Another node failed; the request goes on without it.
  virtual void on_recovery(const Recovery& recovery) = 0;
  // Once, at the end.
  virtual void on_finished(Result<RequestReport> report) = 0;
};

class Request : public SessionObserver, public std::enable_shared_from_this<Request> {
 public:
  // `open` carries what the node knows (model, fingerprint, ids); the options fill in the rest.
  static Result<std::shared_ptr<Request>> start(SessionHost& host, handoff::Open open, RequestOptions options,
                                                RequestObserver& observer);
  bool ended() const { return ended_; }
  const handoff::Id& id() const { return open_.request; }
  // Of the prompt, kept from earlier requests; where another node does all, known with the first token.
  std::uint32_t cached_tokens() const { return cached_tokens_; }
  // The prompt and everything generated.
  std::span<const Token> text() const { return sequence_; }
  const std::vector<Recovery>& recoveries() const { return recoveries_; }
  // Its work on this node; null while it changes plans.
  const std::shared_ptr<Session>& session() const { return session_; }

  // The observer hears of it as a kCancelled error, within one layer of work.
  void cancel();

  void on_logits(std::uint32_t position, std::span<const float> logits) override;
  void on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) override;
  void on_failed(const Error& error) override;

 private:
  Request(SessionHost& host, RequestOptions options, engine::Sampler sampler, RequestObserver& observer);

  // Room for the text, and in it as much of the prompt as an earlier request has left here; `open` then tells what
  // flows.
  Result<void> take_workspace(handoff::Open& open);
  // Where one other node does all by the plan: `open` tells it what that may be.
  void hope_for_prefix(handoff::Open& open) const;
  void leave_workspace();
  void begin_session(handoff::Open open, std::vector<Token> prompt);
  void begin_speculation(const plan::Plan& plan);
  Result<std::unique_ptr<Proposer>> make_proposer();

  // request_recovery.cpp
  void recover(const Error& error);
  // The text so far, as far as it need not be made again.
  std::vector<Token> text_to_go_on_with() const;
  // Where the chunk begins that must be computed first, where all layers are held up to `held_tokens`.
  std::uint32_t prefix_for_going_on(std::uint32_t held_tokens) const;
  // Behind the passes under way, on the executor's thread, and `then` on the loop's where the request goes on.
  void on_executor(std::move_only_function<Result<void>(engine::Engine&)> work, net::Task then);
  void choose_plan(Recovery recovery);
  // This node alone, or what options_.replan says where that is possible.
  plan::Plan plan_after(const Recovery& recovery) const;
  // At recovery.salvaged_tokens, by recovery.replanned.
  void go_on(Recovery recovery);
  double since_start(TimePoint at) const { return seconds(at - started_); }

  // One token from the row of logits before it. Nothing where the request has ended, by it or otherwise.
  std::optional<Token> sample(std::span<const float> logits);
  Result<Token> choose(std::span<const float> logits);
  // The first logits since a plan began by which another node does all: it has said what it had.
  void note_kept_elsewhere();
  bool take_token(Token token);  // whether the text goes on
  // The last token and what is guessed to follow it.
  void step();
  void step_with(std::span<const Token> draft);
  void end(Result<RequestReport> report);
  // What a session that has ended leaves to the report.
  void take_over(const Session& session);
  RequestReport report() const;
  std::uint32_t tokens_left() const {
    return options_.max_new_tokens - static_cast<std::uint32_t>(sequence_.size() - options_.prompt.size());
  }
  std::uint32_t prompt_size() const { return static_cast<std::uint32_t>(options_.prompt.size()); }

  SessionHost& host_;
  const std::shared_ptr<const void> use_of_host_;
  RequestOptions options_;
  engine::Sampler sampler_;
  RequestObserver& observer_;
  handoff::Open open_;
  std::shared_ptr<Workspace> workspace_;
  std::shared_ptr<Session> session_;
  PrefixOrigin origin_;  // of the rows in the workspace
  std::uint32_t cached_tokens_ = 0;
  std::vector<Token> sequence_;        // prompt and everything generated
  std::uint32_t computed_tokens_ = 0;  // of those, once there were logits
  std::vector<Recovery> recoveries_;
  std::vector<std::string> lost_;  // fingerprints of the nodes that failed
  TimePoint progress_at_;          // something was read or written
  std::map<std::string, TransferSummary> transfer_from_;
  SpeculationReport speculation_;           // where nothing is guessed: why
  std::shared_ptr<Speculator> speculator_;  // else
  std::vector<Token> stepped_;  // tokens of the step under way: the text's last, and what is guessed to follow
  TimePoint step_began_{};
  bool ended_ = false;
  bool emulated_;  // some node's device so far
  TimePoint started_;
  std::optional<TimePoint> accepted_;
  std::optional<SessionTimes> prefill_times_;  // of the session that gave the first token
  std::optional<TimePoint> first_token_;
  TimePoint last_token_{};
};

}  // namespace baton::node
