// What a session hears from its transfers.
#include <algorithm>
#include <format>

#include "node/session.h"

namespace baton::node {

namespace {

Result<std::vector<float>> to_floats(ByteSpan bytes, handoff::DType dtype, std::size_t values) {
  std::vector<float> floats(values);
  TRY(handoff::convert(dtype, bytes, handoff::DType::kF32, std::as_writable_bytes(std::span(floats))));
  return floats;
}

// For a person to find the machine.
std::string place_of(const plan::NodeRef& peer) {
  return peer.address.empty() ? peer.name : peer.name + " at " + peer.address;
}

// Why `own`, a node that the coordinator asked, cannot reach another: whoever reads it sits at a third machine.
std::string why_unreachable(const plan::NodeRef& own, const plan::NodeRef& peer, const Error& error) {
  const std::string cannot = std::format("{} cannot reach {}: ", own.name, place_of(peer));
  // What the dialling says of a refusal is for whoever sits at this node.
  if (error.code != ErrorCode::kRefused) return cannot + error.message;
  return cannot +
         std::format("{0} does not trust {1}; start {0} with --trust {2} too", peer.name, own.name, own.fingerprint);
}

}  // namespace

void Session::on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) {
  const plan::NodeIndex to = transfer.machine.open().receiver;
  if (std::holds_alternative<handoff::PromptArrived>(event)) {
    if (!begun_ && !ended_) begin(transfer.machine.prompt());
  } else if (const auto* step = std::get_if<handoff::StepRequested>(&event)) {
    if (open_.plan.decode.front().node != self_) {
      return fail_with({ErrorCode::kProtocol, "the coordinator asks this node for steps that another begins", {}});
    }
    steps_.push_back({step->token});
    pump();
  } else if (const auto* acknowledged = std::get_if<handoff::Acknowledged>(&event)) {
    const bool kept_too_much = !ended_ && keeps_too_much();
    release(to, acknowledged->key);
    if (acknowledged->key.kind == handoff::SliceKind::kHidden || (kept_too_much && !keeps_too_much())) pump();
  } else if (const auto* over = std::get_if<handoff::SenderEnded>(&event)) {
    if (to != plan::kCoordinator) return;
    // The coordinator is done with this node, or lost to it; either way nobody needs more of it.
    if (over->reason == handoff::SenderEnded::Reason::kCommitted) {
      finishing_ = true;
      commit_complete();
    } else {
      stop(over->error);
    }
  }
}

void Session::on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) {
  if (const auto* accepted = std::get_if<handoff::AcceptedByPeer>(&event)) {
    if (accepted->accepted.pace == handoff::Pace::kEmulated) times_.peer_emulated = true;
    kept_elsewhere_ = accepted->accepted.prefix_tokens;
    if (++accepted_ == incoming_.size()) times_.accepted = host_.surroundings.now();
  } else if (const auto* slice = std::get_if<handoff::SliceReady>(&event)) {
    on_slice(transfer, *slice);
  } else if (const auto* done = std::get_if<handoff::DoneReceived>(&event)) {
    times_.peer_overrun = std::max(times_.peer_overrun, done->done.late_ppm / 1e6);
    const auto end = transfer.machine.stats().last_compute_end;
    if (end) times_.last_prefill_compute = std::max(times_.last_prefill_compute.value_or(*end), *end);
  } else if (const auto* over = std::get_if<handoff::ReceiverEnded>(&event)) {
    ended_transfers_.emplace(transfer.machine.open().sender, transfer.machine.stats());
    if (over->reason == handoff::ReceiverEnded::Reason::kReleased) return;
    const Blame blame = blame_for(transfer, *over);
    fail_with(blame.error, blame.node);
  }
}

Session::Blame Session::blame_for(const IncomingTransfer& transfer, const handoff::ReceiverEnded& over) const {
  if (over.reason == handoff::ReceiverEnded::Reason::kFailed) {
    // Who gives up for want of another is not at fault, and may be of use to the next plan.
    for (const auto& [from, weak] : incoming_) {
      const auto other = weak.lock();
      if (!other || other.get() == &transfer || !other->machine.accepted() || other->machine.attached()) continue;
      return {from,
              {ErrorCode::kUnavailable,
               std::format("its connection is lost, and {} gives up without it", transfer.peer.name),
               place_of(other->peer)}};
    }
  }
  // A node that had accepted can only have failed, whatever it says now: one that was restarted knows of nothing.
  const ErrorCode code = transfer.machine.accepted() ? ErrorCode::kUnavailable : over.error.code;
  return {transfer.machine.open().sender, {code, over.error.to_string(), place_of(transfer.peer)}};
}

void Session::on_unreachable(IncomingTransfer& transfer, const Error& error) {
  // A machine that is switched off may have no name, and another may have its address meanwhile: it is away, no more.
  const bool away = transfer.was_connected || error.code == ErrorCode::kNotFound;
  // Another key than was expected is told apart from no trust by its code; it is refused all the same.
  const bool another = error.code == ErrorCode::kInvalidArgument;
  const ErrorCode code = away ? ErrorCode::kUnavailable : another ? ErrorCode::kRefused : error.code;
  const plan::NodeIndex peer = transfer.machine.open().sender;
  if (self_ == plan::kCoordinator) return fail_with({code, error.message, place_of(transfer.peer)}, peer);
  fail_with({code, why_unreachable(open_.plan.nodes[self_], transfer.peer, error), {}}, peer);
}

std::shared_ptr<const void> Session::keep_alive(ByteSpan payload) {
  return workspace_ ? workspace_->keep_alive(payload) : nullptr;
}

void Session::on_slice(IncomingTransfer& transfer, const handoff::SliceReady& slice) {
  if (ended_) return;
  Result<void> taken;
  switch (slice.key.kind) {
    case handoff::SliceKind::kKv:
    case handoff::SliceKind::kLatent: taken = take_kv(slice); break;
    case handoff::SliceKind::kHidden:
      if (!has_room_for(slice)) {
        staged_hidden_.emplace(slice.key.first_position, StagedHidden{transfer.machine.open().sender, slice});
        return;
      }
      taken = take_hidden(slice);
      break;
    case handoff::SliceKind::kLogits: break;  // below: what it starts must find it held
    case handoff::SliceKind::kRecurrent: taken = take_state(slice); break;
  }
  if (!taken) return fail_with(taken.error());
  if (slice.key.kind == handoff::SliceKind::kLogits) {
    const auto logits = to_floats(slice.part(0), slice.dtypes[0], host_.widths.logits_values);
    transfer.machine.held(slice.key, host_.surroundings.now());
    if (!logits) return fail_with(logits.error());
    logits_arrived(slice.key.first_position, *logits);
  } else {
    transfer.machine.held(slice.key, host_.surroundings.now());
  }
  if (ended_) return;
  if (handoff::is_kept(slice.key.kind)) {
    times_.kv_complete = host_.surroundings.now();
    report_prefilled();
  }
  commit_complete();
  pump();
}

Result<void> Session::take_kv(const handoff::SliceReady& slice) {
  return workspace_->write_kv(slice.key.layer, slice.key.first_position, slice.key.tokens, slice.dtypes[0],
                              slice.part(0), slice.part(1));
}

Result<void> Session::take_state(const handoff::SliceReady& slice) {
  const std::uint32_t border = slice.key.end_position();
  StateShelf& states = workspace_->states();
  if (border == open_.prompt_tokens) return states.use(slice.key.layer, border, slice.part(0));
  // Decode needs the last one only; those before it are for going on without their sender.
  if (may_resume_alone()) states.keep(slice.key.layer, border, Bytes(slice.part(0).begin(), slice.part(0).end()));
  return {};
}

// The next in turn must find room, or the request would wait for itself.
bool Session::has_room_for(const handoff::SliceReady& slice) const {
  const std::uint32_t next = next_chunk_ < chunks_.size() ? chunks_[next_chunk_].first_position : next_position_;
  const std::size_t bytes = std::size_t{slice.key.tokens} * host_.widths.hidden_values * sizeof(float);
  return slice.key.first_position <= next || hidden_inbox_bytes_ + bytes <= host_.early_hidden_bytes;
}

Result<void> Session::take_hidden(const handoff::SliceReady& slice) {
  const std::size_t values = std::size_t{slice.key.tokens} * host_.widths.hidden_values;
  std::vector<float>& hidden = hidden_inbox_[slice.key.first_position];
  hidden = TRY(to_floats(slice.part(0), slice.dtypes[0], values));
  hidden_inbox_bytes_ += hidden.size() * sizeof(float);
  return {};
}

void Session::take_staged_hidden() {
  while (!ended_ && !staged_hidden_.empty() && has_room_for(staged_hidden_.begin()->second.slice)) {
    const StagedHidden staged = staged_hidden_.extract(staged_hidden_.begin()).mapped();
    const auto transfer = incoming_[staged.from].lock();
    // Its staging went with it; that it ended ends this session too.
    if (!transfer) return;
    if (const auto taken = take_hidden(staged.slice); !taken) return fail_with(taken.error());
    transfer->machine.held(staged.slice.key, host_.surroundings.now());
    transfer->wake();
  }
}

void Session::logits_arrived(std::uint32_t position, std::span<const float> logits) {
  logits_seen_ = true;
  if (observer_ != nullptr) observer_->on_logits(position, logits);
}

void Session::report_prefilled() {
  if (!workspace_->states().empty()) {
    const std::uint32_t salvageable = least_position(&handoff::Receiver::salvage_position);
    // Never past the last chunk: whoever resumes computes that again for its logits.
    const std::uint32_t resumable = std::min(salvageable, open_.prompt_tokens - 1);
    workspace_->states().drop_below(resumable / open_.chunk_tokens * open_.chunk_tokens);
  }
  if (observer_ != nullptr)
    observer_->on_prefilled(least_position(&handoff::Receiver::arrived_up_to), open_.prompt_tokens);
}

}  // namespace baton::node
