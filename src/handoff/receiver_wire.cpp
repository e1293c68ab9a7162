// What a receiver does with each message, and what it sends.
#include <algorithm>
#include <cstring>
#include <format>

#include "base/digest.h"
#include "handoff/receiver.h"

namespace baton::handoff {

namespace {

// An honest sender has one KV slice under way and one that overtakes it.
constexpr std::ptrdiff_t kSlotsUnderWay = 4;

}  // namespace

std::vector<ReceiverEvent> Receiver::receive(const Message& message, TimePoint now) {
  using Reason = ReceiverEnded::Reason;
  note_call(now);
  if (over() || !attached_ || message.transfer != transfer_ || message.generation < generation_) return {};
  if (message.generation > generation_) {
    return broken(Fault::kDamage, ErrorCode::kProtocol, "the sender speaks of a connection that never was", now);
  }
  last_bytes_ = now;
  heard_ = true;
  const Body& body = message.body;
  if (const auto* slice = std::get_if<Slice>(&body)) return on_slice(*slice, now);
  if (const auto* accepted = std::get_if<Accepted>(&body)) return on_accepted(*accepted, now);
  if (const auto* done = std::get_if<Done>(&body)) return on_done(*done, now);
  if (const auto* guesses = std::get_if<Guesses>(&body)) return on_guesses(*guesses);
  if (const auto* progress = std::get_if<Progress>(&body)) {
    on_progress(*progress, now);
    return {};
  }
  if (const auto* pong = std::get_if<Pong>(&body)) {
    on_pong(*pong, now);
    return {};
  }
  // A sender that had accepted and now does not know the transfer has lost it.
  if (const auto* refused = std::get_if<Refused>(&body)) {
    return end(accepted_ ? Reason::kFailed : Reason::kRefused, refused->error.to_error());
  }
  if (const auto* failed = std::get_if<Failed>(&body)) return end(Reason::kFailed, failed->error.to_error());
  if (std::holds_alternative<Released>(body) && state_ == State::kCommitting) return end(Reason::kReleased, {});
  return broken(Fault::kDamage, ErrorCode::kProtocol,
                std::format("the sender sent {}, which is not possible now", message_name(body)), now);
}

std::vector<ReceiverEvent> Receiver::on_accepted(const Accepted& accepted, TimePoint now) {
  advanced_at_ = now;
  if (state_ != State::kOpening || open_due_) return {};
  state_ = State::kAccepted;
  accepted_ = true;
  return {AcceptedByPeer{accepted}};
}

Result<void> Receiver::check_header(const SliceHeader& header) const {
  if (!flow_.contains(header.key)) {
    return fail(ErrorCode::kProtocol, std::format("{} is not part of the transfer", header.key.to_string()));
  }
  const auto bytes = part_bytes(header.key, header.dtypes, widths_);
  if (header.dtypes != flow_.dtypes(header.key.kind) || bytes[0] != header.part_bytes[0] ||
      bytes[1] != header.part_bytes[1]) {
    return fail(ErrorCode::kProtocol, std::format("{} has the wrong format or size", header.key.to_string()));
  }
  if (std::uint64_t{header.length} > allowed_bytes_ - std::min(allowed_bytes_, received_bytes_)) {
    return fail(ErrorCode::kProtocol, "the sender sends more than it has credit for");
  }
  return {};
}

Result<Receiver::Slot*> Receiver::slot_for(const SliceHeader& header) {
  const auto known = std::ranges::find_if(slots_, [&](const Slot& slot) { return slot.header.key == header.key; });
  if (known != slots_.end()) {
    const SliceHeader& first = known->header;
    if (first.sent_at_ns == header.sent_at_ns) return &*known;
    return fail(ErrorCode::kProtocol, std::format("the fragments of {} contradict each other", header.key.to_string()));
  }
  const auto under_way = std::ranges::count_if(slots_, [](const Slot& slot) { return !slot.ready; });
  if (header.offset != 0 || !ledger_.may_come(header.key) || under_way >= kSlotsUnderWay) {
    return fail(ErrorCode::kProtocol, std::format("{} came out of order", header.key.to_string()));
  }
  slots_.push_back({header, take_buffer(header.payload_bytes()), {}});
  return &slots_.back();
}

std::vector<ReceiverEvent> Receiver::on_slice(const Slice& slice, TimePoint now) {
  const SliceHeader& header = slice.header;
  if (state_ == State::kCommitting) return {};
  const auto damaged = [&](std::string message) {
    return broken(Fault::kDamage, ErrorCode::kProtocol, std::move(message), now);
  };
  if (!accepted_) return damaged("a slice came before the transfer was accepted");
  if (slice.payload.size() != header.length) return damaged("a fragment's length is wrong");
  if (auto checked = check_header(header); !checked) return damaged(checked.error().message);

  stats_.wire_payload_bytes += header.length;
  switch (ledger_.state(header.key)) {
    case SliceLedger::State::kReceived: return {};  // repeated
    case SliceLedger::State::kReceivedBefore:
      received_bytes_ += header.length;
      want_credit(now);
      return {};
    case SliceLedger::State::kDropped:
      return damaged(std::format("{} came after a later one of its layer", header.key.to_string()));
    case SliceLedger::State::kMissing: break;
  }
  auto found = slot_for(header);
  if (!found) return damaged(found.error().message);
  Slot& slot = **found;
  if (header.offset + header.length <= slot.filled) return {};  // repeated
  if (header.offset != slot.filled) return damaged(std::format("a fragment of {} is missing", header.key.to_string()));

  std::memcpy(slot.buffer.data() + slot.filled, slice.payload.data(), slice.payload.size());
  slot.sum.update(slice.payload);  // while it is still in the processor's cache
  slot.filled += header.length;
  occupied_bytes_ += header.length;
  received_bytes_ += header.length;
  fed_at_ = now;
  if (slot.sum.value() != header.checksum) {
    return broken(Fault::kDamage, ErrorCode::kCorrupt,
                  std::format("{} was damaged on its way: its checksum is wrong", header.key.to_string()), now);
  }
  if (slot.filled < header.payload_bytes()) return {};
  return on_complete(slot, now);
}

std::vector<ReceiverEvent> Receiver::on_complete(Slot& slot, TimePoint now) {
  const SliceHeader& header = slot.header;
  slot.ready = true;
  ledger_.received(header.key);
  note_news(now);
  want_credit(now);

  ++stats_.slices;
  stats_.payload_bytes += header.payload_bytes();
  if (is_kept(header.key.kind)) {
    transfer_ns_ += static_cast<double>(now.time_since_epoch().count() - header.sent_at_ns);
    ++transfer_slices_;
  }
  if (header.key.kind == SliceKind::kLogits) {
    while (!steps_.empty() && steps_.front().position <= header.key.first_position) {
      steps_.pop_front();
      steps_sent_ -= std::min<std::size_t>(steps_sent_, 1);
    }
  }
  return {SliceReady{header.key, header.dtypes, {header.part_bytes[0], header.part_bytes[1]}, slot.payload()}};
}

std::vector<ReceiverEvent> Receiver::on_done(const Done& done, TimePoint now) {
  if (!accepted_ || done.slices != flow_.prefill_slices() || done.payload_bytes != flow_.prefill_bytes(widths_)) {
    return broken(Fault::kDamage, ErrorCode::kProtocol,
                  std::format("the sender says it is done with {} slices, but {} belong to the transfer", done.slices,
                              flow_.prefill_slices()),
                  now);
  }
  fed_at_ = now;
  if (std::exchange(done_, done)) return {};
  return {DoneReceived{done}};
}

// Guesses are worth nothing from a sender that lies, and what else its connection carries need not suffer for it.
std::vector<ReceiverEvent> Receiver::on_guesses(const Guesses& guesses) {
  const auto known = [&](Token token) { return token >= 0 && static_cast<std::size_t>(token) < widths_.logits_values; };
  if (guesses_due_ == 0 || guesses.position != next_step_ || guesses.tokens.size() > guesses_due_ ||
      !std::ranges::all_of(guesses.tokens, known)) {
    return end(ReceiverEnded::Reason::kStageDead,
               {ErrorCode::kProtocol, "the sender's guesses are not what was asked for", {}});
  }
  guesses_due_ = 0;
  return {GuessesReceived{guesses}};
}

void Receiver::on_progress(const Progress& progress, TimePoint now) {
  const bool begins = progress.state == WorkState::kComputing && progress_.state != WorkState::kComputing;
  if (progress.counter > progress_.counter) note_news(now);
  if (progress.counter > progress_.counter || begins) advanced_at_ = now;
  progress_ = {std::max(progress.counter, progress_.counter), progress.state, progress.predicted_next_us};
}

void Receiver::on_pong(const Pong& pong, TimePoint now) {
  const std::int64_t now_ns = now.time_since_epoch().count();
  const std::int64_t round_trip_ns = now_ns - pong.receiver_time_ns;
  // The answer is ours: a time that we cannot have sent says nothing.
  if (pong.receiver_time_ns < 0 || round_trip_ns < 0) return;
  if (best_ping_ && best_ping_->round_trip.count() <= round_trip_ns) return;
  best_ping_ = {Duration(round_trip_ns), pong.sender_time_ns - (pong.receiver_time_ns + round_trip_ns / 2)};
}

std::optional<OutgoingFrame> Receiver::next(TimePoint now) {
  if (!attached_) return std::nullopt;
  auto control = next_control(now);
  if (!control) return std::nullopt;
  return OutgoingFrame{encode({transfer_, generation_, std::move(*control)}), {}};
}

std::optional<Body> Receiver::next_opening() {
  if (open_due_) {
    open_due_ = false;
    open_.allowed_bytes = allowed_bytes_;
    return open_;
  }
  if (prompt_sent_ == prompt_.size()) return std::nullopt;
  const auto rest = std::span(prompt_).subspan(prompt_sent_);
  const auto part = rest.first(std::min(rest.size(), kTokensPerPromptFrame));
  Prompt prompt{prompt_sent_, {part.begin(), part.end()}};
  prompt_sent_ += static_cast<std::uint32_t>(part.size());
  return prompt;
}

std::optional<Body> Receiver::next_control(TimePoint now) {
  if (cancel_due_) return Cancel{WireError::from(*std::exchange(cancel_due_, std::nullopt))};
  if (over()) return std::nullopt;
  if (state_ == State::kOpening) {
    if (auto opening = next_opening()) return opening;
  }
  if (state_ == State::kCommitting && now >= next_commit_) {
    next_commit_ = now + limits_.commit_interval;
    return Commit{};
  }
  if (state_ == State::kAccepted) {
    if (resume_due_) {
      resume_due_ = false;
      (void)ledger_.take_news();
      return Resume{allowed_bytes_, ledger_.received_ranges()};
    }
    if (steps_sent_ < steps_.size()) return steps_[steps_sent_++];
    if (!drafts_.empty()) {
      Body draft = std::move(drafts_.front());
      drafts_.pop_front();
      return draft;
    }
    if (credit_due(now)) {
      credit_wanted_at_.reset();
      allowed_bytes_ = allowed_now();
      return Credit{allowed_bytes_, ledger_.take_news()};
    }
  }
  if (now >= next_ping_) {
    next_ping_ = now + limits_.ping_interval;
    return Ping{now.time_since_epoch().count()};
  }
  return std::nullopt;
}

}  // namespace baton::handoff
