#include "handoff/receiver.h"

#include <algorithm>
#include <format>

#include "handoff/widths_check.h"

namespace baton::handoff {

namespace {

constexpr std::size_t kSpareBuffers = 8;
constexpr std::size_t kRepeatedSteps = 256;
// However slow the sender says that it is.
constexpr Duration kLongestStall = std::chrono::minutes(10);
// Times that a sender made up may add up to more than a clock can hold.
constexpr double kLongestSumNs = 9e18;

}  // namespace

Result<Receiver> Receiver::create(const TransferId& transfer, Open open, std::vector<Token> prompt, Widths widths,
                                  const ReceiverLimits& limits, TimePoint now) {
  TRY(check(open, widths.layers()));
  if (transfer == TransferId{}) return fail(ErrorCode::kInvalidArgument, "a transfer needs an id");
  if (prompt.size() != open.prompt_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("the prompt has {} tokens, not {}", prompt.size(), open.prompt_tokens));
  }
  Receiver receiver(flow_of(open, widths));
  TRY(check_widths(receiver.flow_, widths));
  receiver.transfer_ = transfer;
  receiver.open_ = std::move(open);
  receiver.prompt_ = std::move(prompt);
  receiver.limits_ = limits;
  receiver.largest_slice_bytes_ = receiver.flow_.largest_slice_bytes(widths);
  // With four slices, one that waits for credit always has a whole one before it that can be held.
  receiver.window_bytes_ = std::max({limits.window_bytes, 4 * receiver.largest_slice_bytes_, std::uint64_t{1}});
  receiver.widths_ = std::move(widths);
  receiver.next_step_ = receiver.open_.prompt_tokens;
  receiver.last_call_ = now;
  receiver.lost_at_ = now;
  return receiver;
}

void Receiver::held(const SliceKey& key, TimePoint now) {
  const auto slot = std::ranges::find_if(slots_, [&](const Slot& s) { return s.ready && s.header.key == key; });
  if (slot == slots_.end()) return;
  occupied_bytes_ -= slot->filled;
  put_back(std::move(slot->buffer));
  slots_.erase(slot);
  ledger_.held(key);
  const bool counts = flow_.kv.empty() || is_kept(key.kind);
  if (counts && key.first_position < flow_.prompt_tokens) stats_.last_held = now;
  want_credit(now);
}

Result<void> Receiver::step(std::uint32_t position, Token token) {
  if (!flow_.steps || wants_guesses(open_) || position != next_step_ || position >= flow_.end_position) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("a step at position {} is not possible: {} comes next", position, next_step_));
  }
  ++next_step_;
  steps_.push_back({position, token});
  if (steps_.size() > kRepeatedSteps) {
    steps_.pop_front();
    steps_sent_ -= std::min<std::size_t>(steps_sent_, 1);
  }
  return {};
}

Result<void> Receiver::guess(Draft draft) {
  const std::size_t end = std::size_t{draft.position} + draft.tokens.size();
  if (!wants_guesses(open_) || guesses_due_ != 0 || draft.position != next_step_ || end > flow_.end_position) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("guesses behind position {} are not possible: the text ends at {}", end, next_step_));
  }
  if (state_ != State::kAccepted || !attached_ || generation_ != 1) {
    return fail(ErrorCode::kUnavailable, "the connection to the node that guesses was lost");
  }
  next_step_ = static_cast<std::uint32_t>(end);
  guesses_due_ = draft.most;
  drafts_.push_back(std::move(draft));
  return {};
}

Result<void> Receiver::commit() {
  if (over() || state_ == State::kCommitting) return {};
  if (!prefill_complete()) return fail(ErrorCode::kInvalidArgument, "the transfer is not complete");
  state_ = State::kCommitting;
  next_commit_ = TimePoint::min();
  asked_at_ = last_call_;
  return {};
}

void Receiver::cancel(const Error& error) {
  if (over()) return;
  state_ = State::kCancelled;
  if (attached_ && !open_due_) cancel_due_ = error;
}

void Receiver::attach(TimePoint now) {
  note_call(now);
  if (over() || attached_) return;
  ++generation_;
  ++attempts_;
  attached_ = true;
  heard_ = false;
  ledger_.begin_generation();
  received_bytes_ = 0;
  allowed_bytes_ = allowed_now();
  credit_wanted_at_.reset();
  open_due_ = state_ == State::kOpening;
  resume_due_ = state_ == State::kAccepted;
  prompt_sent_ = 0;
  steps_sent_ = 0;
  attached_at_ = next_commit_ = next_ping_ = last_bytes_ = advanced_at_ = fed_at_ = now;
  if (state_ == State::kOpening) asked_at_ = now;
  ++stats_.connections;
}

void Receiver::connection_lost(TimePoint now) {
  note_call(now);
  if (attached_) detach(now);
}

void Receiver::detach(TimePoint now) {
  attached_ = false;
  cancel_due_.reset();
  drafts_.clear();
  // A connection that brought nothing does not start the time for reconnecting anew.
  if (heard_) lost_at_ = now;
  // What is not whole comes again.
  for (Slot& slot : slots_) {
    if (slot.ready) continue;
    occupied_bytes_ -= slot.filled;
    put_back(std::move(slot.buffer));
  }
  std::erase_if(slots_, [](const Slot& slot) { return !slot.ready; });
}

std::vector<ReceiverEvent> Receiver::broken(Fault fault, ErrorCode code, std::string message, TimePoint now) {
  if (fault == Fault::kDamage) {
    ++damages_;
    ++stats_.damages;
  }
  detach(now);
  return {ConnectionLost{{code, std::move(message), {}}}};
}

std::vector<ReceiverEvent> Receiver::end(ReceiverEnded::Reason reason, Error error) {
  using Reason = ReceiverEnded::Reason;
  // Once everything was committed the transfer has succeeded, whatever becomes of the sender.
  if (state_ == State::kCommitting) reason = Reason::kReleased;
  if (reason == Reason::kReleased) error = {};
  state_ = reason == Reason::kReleased ? State::kReleased : State::kDead;
  if (reason == Reason::kStageDead && attached_) cancel_due_ = error;
  return {ReceiverEnded{reason, std::move(error)}};
}

std::vector<ReceiverEvent> Receiver::tick(TimePoint now) {
  using Reason = ReceiverEnded::Reason;
  note_call(now);
  if (over()) return {};
  if (!attached_) {
    if (damages_ > limits_.max_damages) {
      return end(Reason::kStageDead, {ErrorCode::kProtocol, "the sender keeps sending damaged data", {}});
    }
    if (now - lost_at_ < limits_.reconnect && attempts_ < limits_.max_attempts) return {};
    return end(Reason::kStageDead, {ErrorCode::kUnavailable, "the sender cannot be reached any more", {}});
  }
  if (now - last_bytes_ >= limits_.silence) {
    return broken(Fault::kConnection, ErrorCode::kTimeout, "nothing came from the sender for too long", now);
  }
  switch (state_) {
    case State::kOpening:
      if (now - asked_at_ < limits_.accept) return {};
      return end(Reason::kStageDead, {ErrorCode::kTimeout, "the sender did not answer whether it accepts", {}});
    case State::kAccepted:
      if (starved()) {
        advanced_at_ = fed_at_ = now;
        return {};
      }
      if (progress_.state == WorkState::kComputing && now - advanced_at_ >= stall_limit()) {
        return end(Reason::kStageDead, {ErrorCode::kTimeout, "the sender computes but makes no progress", {}});
      }
      if (done_ && !ledger_.prefill_received() && now - fed_at_ >= limits_.silence) {
        return broken(Fault::kDamage, ErrorCode::kProtocol, "the sender is done, but slices are missing", now);
      }
      return {};
    case State::kCommitting:
      if (now - asked_at_ < limits_.reconnect) return {};
      return end(Reason::kReleased, {});
    default: return {};
  }
}

TimePoint Receiver::next_deadline() const {
  if (over()) return TimePoint::max();
  if (!attached_) {
    const bool hopeless = damages_ > limits_.max_damages || attempts_ >= limits_.max_attempts;
    return hopeless ? lost_at_ : lost_at_ + limits_.reconnect;
  }
  TimePoint deadline = std::min({next_ping_, last_bytes_ + limits_.silence, last_call_ + limits_.own_stall / 2});
  switch (state_) {
    case State::kOpening: return std::min(deadline, asked_at_ + limits_.accept);
    case State::kCommitting: return std::min({deadline, next_commit_, asked_at_ + limits_.reconnect});
    default: break;
  }
  if (credit_wanted_at_) deadline = std::min(deadline, *credit_wanted_at_ + limits_.credit_delay);
  if (progress_.state == WorkState::kComputing) deadline = std::min(deadline, advanced_at_ + stall_limit());
  if (done_ && !ledger_.prefill_received()) deadline = std::min(deadline, fed_at_ + limits_.silence);
  return deadline;
}

void Receiver::note_bytes(TimePoint now) {
  note_call(now);
  last_bytes_ = std::max(last_bytes_, now);
}

// A pause between calls longer than the machine asks for is this process's own (stopped, swapped out): what came
// meanwhile lies unread, and nobody is to blame.
void Receiver::note_call(TimePoint now) {
  const Duration pause = now - last_call_;
  if (attached_ && pause > limits_.own_stall) {
    for (TimePoint* time : {&last_bytes_, &advanced_at_, &fed_at_, &asked_at_}) *time += pause;
  }
  last_call_ = std::max(last_call_, now);
}

// One that is cut as often as it is made is not worth waiting for, whatever it brings in between.
void Receiver::note_news(TimePoint now) {
  if (now - attached_at_ >= limits_.steady) attempts_ = 0;
}

std::uint32_t Receiver::arrived_up_to() const {
  std::uint32_t position = flow_.prompt_tokens;
  for (const KeptLane& lane : flow_.kept) position = std::min(position, held_up_to(lane.kind, lane.layer));
  return position;
}

bool Receiver::finished() const { return over() && (!cancel_due_ || !attached_); }

TransferStats Receiver::stats() const {
  TransferStats stats = stats_;
  const std::int64_t offset = best_ping_ ? best_ping_->offset_ns : 0;
  const double transfer_ns = transfer_ns_ + static_cast<double>(transfer_slices_) * static_cast<double>(offset);
  stats.transfer = Duration(static_cast<std::int64_t>(std::clamp(transfer_ns, -kLongestSumNs, kLongestSumNs)));
  stats.clock_offset_ns = offset;
  if (best_ping_) stats.round_trip = best_ping_->round_trip;
  if (done_) {
    stats.last_compute_end = TimePoint(Duration(done_->last_compute_end_ns - offset));
    if (prefill_complete() && stats.last_held) {
      stats.exposed = std::max(Duration::zero(), *stats.last_held - *stats.last_compute_end);
    }
  }
  return stats;
}

void Receiver::want_credit(TimePoint now) {
  if (!credit_wanted_at_) credit_wanted_at_ = now;
}

bool Receiver::credit_due(TimePoint now) const {
  if (!credit_wanted_at_) return false;
  return allowed_now() - allowed_bytes_ >= window_bytes_ / 4 || now - *credit_wanted_at_ >= limits_.credit_delay;
}

bool Receiver::starved() const {
  const std::uint64_t left = allowed_bytes_ - received_bytes_;
  return left < std::min<std::uint64_t>(kMaxFragmentBytes, largest_slice_bytes_);
}

Duration Receiver::stall_limit() const {
  const Duration predicted = std::chrono::microseconds(progress_.predicted_next_us);
  return std::clamp(4 * predicted, limits_.stalled, std::max(limits_.stalled, kLongestStall));
}

Bytes Receiver::take_buffer(std::size_t size) {
  const auto fits = std::ranges::find_if(spare_buffers_, [&](const Bytes& buffer) { return buffer.size() >= size; });
  if (fits == spare_buffers_.end()) return Bytes(size);
  Bytes buffer = std::move(*fits);
  spare_buffers_.erase(fits);
  return buffer;
}

void Receiver::put_back(Bytes buffer) {
  if (spare_buffers_.size() == kSpareBuffers) return;
  const auto larger = std::ranges::lower_bound(spare_buffers_, buffer.size(), {}, &Bytes::size);
  spare_buffers_.insert(larger, std::move(buffer));
}

}  // namespace baton::handoff
