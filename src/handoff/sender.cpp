#include "handoff/sender.h"

#include <algorithm>
#include <format>
#include <iterator>

#include "handoff/widths_check.h"

namespace baton::handoff {

namespace {

std::int64_t nanoseconds(TimePoint time) { return time.time_since_epoch().count(); }

}  // namespace

Result<Sender> Sender::create(const Message& opening, Widths widths, const SenderLimits& limits, TimePoint now) {
  const auto* open = std::get_if<Open>(&opening.body);
  if (open == nullptr) {
    return baton::fail(ErrorCode::kInvalidArgument, std::format("{} opens no transfer", message_name(opening.body)));
  }
  TRY(check(*open, widths.layers()));
  Sender sender;
  sender.transfer_ = opening.transfer;
  sender.open_ = *open;
  sender.flow_ = flow_of(*open, widths);
  TRY(check_widths(sender.flow_, widths));
  sender.widths_ = std::move(widths);
  sender.limits_ = limits;
  sender.limits_.max_fragment_bytes = std::clamp<std::size_t>(limits.max_fragment_bytes, 1, kMaxFragmentBytes);
  sender.next_step_ = open->prompt_tokens;
  sender.last_call_ = now;
  sender.attach(opening.generation, open->allowed_bytes, now);
  return sender;
}

void Sender::accept(const Accepted& accepted) {
  if (state_ == State::kOpened) accepted_ = accepted;
}

void Sender::refuse(const Error& error) {
  if (over()) return;
  end(State::kRefused, error);
  last_word_due_ = true;
}

void Sender::fail(const Error& error) {
  if (over()) return;
  end(State::kFailed, error);
  last_word_due_ = true;
}

Result<void> Sender::offer(const OfferedSlice& slice) {
  if (over()) return {};
  const auto wrong = [&](std::string_view why) {
    return baton::fail(ErrorCode::kInvalidArgument, std::format("{} {}", slice.key.to_string(), why));
  };
  if (!accepted_) return wrong("was offered before the transfer was accepted");
  if (!flow_.contains(slice.key)) return wrong("is not part of the transfer");
  const auto bytes = part_bytes(slice.key, flow_.dtypes(slice.key.kind), widths_);
  if (slice.parts[0].size() != bytes[0] || slice.parts[1].size() != bytes[1]) return wrong("has the wrong size");
  Lane& of = lane(slice.key.kind, slice.key.layer);
  const bool is_prefill = slice.key.first_position < flow_.prompt_tokens;
  const std::uint32_t expected = [&] {
    if (of.offered_up_to != 0) return of.offered_up_to;
    if (!is_prefill) return flow_.prompt_tokens;
    return slice.key.kind == SliceKind::kLogits ? flow_.prompt_tokens - 1 : open_.prefix_tokens;
  }();
  // Only slices that may be dropped may be passed over: the last before this one, and so all before it.
  const bool passes_over = slice.key.first_position > expected &&
                           flow_.may_be_dropped({slice.key.kind, slice.key.layer, slice.key.first_position - 1, 1});
  if (slice.key.first_position != expected && !passes_over) return wrong("was offered out of order");

  of.offered_up_to = slice.key.end_position();
  of.offers.push_back({.slice = slice, .order = next_order_++, .sum = {}});
  if (is_prefill && !flow_.may_be_dropped(slice.key)) ++needed_offered_;
  queue_for(slice.key).push_back(slice.key);
  drop_beyond_limit();
  return {};
}

std::deque<SliceKey>& Sender::queue_for(const SliceKey& key) {
  if (!is_kept(key.kind)) return urgent_;
  return flow_.may_be_dropped(key) ? spare_ : bulk_;
}

bool Sender::spare_begun() {
  const Offer* offer = spare_.empty() ? nullptr : find(spare_.front());
  return offer != nullptr && offer->sent_bytes > 0;
}

void Sender::drop(SliceKey key) {
  std::erase_if(lane(key.kind, key.layer).offers, [&](const Offer& offer) { return offer.slice.key == key; });
  std::erase(spare_, key);
  dropped_.push_back(key);
}

// The receiver takes what comes after an earlier slice of the layer as the word that that one will not.
Sender::Offer* Sender::drop_passed_over(SliceKey key) {
  std::vector<SliceKey> passed_over;
  std::ranges::copy_if(spare_, std::back_inserter(passed_over), [&](const SliceKey& spare) {
    return spare.kind == key.kind && spare.layer == key.layer && spare.first_position < key.first_position;
  });
  for (const SliceKey& spare : passed_over) drop(spare);
  return find(key);
}

void Sender::drop_beyond_limit() {
  std::uint64_t waiting = 0;
  for (const SliceKey& key : spare_) {
    if (const Offer* offer = find(key)) waiting += offer->payload_bytes();
  }
  // The oldest first: from where the receiver could go on alone depends on the latest.
  while (waiting > limits_.spare_bytes) {
    const std::size_t oldest = spare_begun() ? 1 : 0;
    if (oldest == spare_.size()) return;
    if (const Offer* offer = find(spare_[oldest])) waiting -= offer->payload_bytes();
    drop(spare_[oldest]);
  }
}

void Sender::progress(std::uint64_t counter, WorkState state, std::uint32_t predicted_next_us) {
  progress_ = {std::max(counter, progress_.counter), state, predicted_next_us};
}

Result<void> Sender::finish(std::int64_t last_compute_end_ns, std::uint32_t late_ppm) {
  if (over()) return {};
  const std::uint64_t needed = flow_.needed_slices();
  if (!accepted_ || needed_offered_ != needed) {
    return baton::fail(
        ErrorCode::kInvalidArgument,
        std::format("the prefill is said to be finished after {} of {} slices", needed_offered_, needed));
  }
  done_ = Done{flow_.prefill_slices(), flow_.prefill_bytes(widths_), last_compute_end_ns, late_ppm};
  return {};
}

void Sender::guessed(Guesses guesses) {
  if (attached_ && !over()) guesses_ = std::move(guesses);
}

void Sender::connection_lost(TimePoint now) {
  note_call(now);
  if (!attached_) return;
  attached_ = false;
  lost_at_ = now;
}

std::vector<SenderEvent> Sender::tick(TimePoint now) {
  note_call(now);
  if (attached_) {
    if (finished() || now - last_heard_ < limits_.receiver_silence) return {};
    attached_ = false;
    lost_at_ = now;
    return {ConnectionLost{{ErrorCode::kTimeout, "the receiver of the transfer has gone silent", {}}}};
  }
  if (now - lost_at_ < limits_.grace) return {};
  last_word_due_ = false;
  if (over()) return {};
  const Error error{ErrorCode::kTimeout, "the receiver of the transfer did not come back", {}};
  end(State::kExpired, error);
  return {SenderEnded{SenderEnded::Reason::kExpired, error}};
}

TimePoint Sender::next_deadline() const {
  if (finished()) return TimePoint::max();
  if (!attached_) return lost_at_ + limits_.grace;
  const TimePoint heartbeat = std::min(last_call_ + limits_.own_stall / 2, last_heard_ + limits_.receiver_silence);
  return accepted_sent_ && !over() ? std::min(heartbeat, next_progress_) : heartbeat;
}

bool Sender::finished() const { return over() && !last_word_due_; }

void Sender::note_call(TimePoint now) {
  const Duration pause = now - last_call_;
  if (attached_ && pause > limits_.own_stall) last_heard_ += pause;
  last_call_ = std::max(last_call_, now);
}

void Sender::attach(std::uint32_t generation, std::uint64_t allowed_bytes, TimePoint now) {
  generation_ = generation;
  attached_ = true;
  last_heard_ = now;
  allowed_bytes_ = allowed_bytes;
  sent_bytes_ = 0;
  done_sent_ = false;
  pong_.reset();
  guesses_.reset();
  next_progress_ = now;

  // Whatever was not acknowledged goes again, from its first byte and in the old order.
  std::vector<const Offer*> offers;
  for (auto& [key, of] : lanes_) {
    for (Offer& offer : of.offers) {
      offer.sent_bytes = 0;
      offer.sum.reset();
      offers.push_back(&offer);
    }
  }
  std::ranges::sort(offers, {}, &Offer::order);
  for (auto* queue : {&urgent_, &bulk_, &spare_}) queue->clear();
  for (const Offer* offer : offers) queue_for(offer->slice.key).push_back(offer->slice.key);
}

void Sender::end(State state, Error error) {
  state_ = state;
  end_error_ = std::move(error);
  lanes_.clear();
  for (auto* queue : {&urgent_, &bulk_, &spare_}) queue->clear();
  dropped_.clear();
  pong_.reset();
  guesses_.reset();
}

Sender::Lane& Sender::lane(SliceKind kind, std::uint32_t layer) { return lanes_[{kind, layer}]; }

Sender::Offer* Sender::find(const SliceKey& key) {
  const auto of = lanes_.find({key.kind, key.layer});
  if (of == lanes_.end()) return nullptr;
  auto& offers = of->second.offers;
  const auto found = std::ranges::lower_bound(offers, key.first_position, {},
                                              [](const Offer& offer) { return offer.slice.key.first_position; });
  return found == offers.end() || found->slice.key != key ? nullptr : &*found;
}

bool Sender::prefill_sent() const {
  return bulk_.empty() && (urgent_.empty() || urgent_.front().first_position >= flow_.prompt_tokens);
}

std::optional<OutgoingFrame> Sender::next(TimePoint now) {
  if (!attached_) return std::nullopt;
  if (auto control = next_control(now)) {
    return OutgoingFrame{encode({transfer_, generation_, std::move(*control)}), {}};
  }
  if (state_ != State::kAccepted || !accepted_sent_) return std::nullopt;
  if (auto frame = next_fragment(urgent_, now)) return frame;
  // What was begun is brought to its end.
  if (spare_begun()) return next_fragment(spare_, now);
  if (auto frame = next_fragment(bulk_, now)) return frame;
  return bulk_.empty() ? next_fragment(spare_, now) : std::nullopt;
}

std::optional<Body> Sender::next_control(TimePoint now) {
  if (last_word_due_) {
    last_word_due_ = false;
    if (state_ == State::kCommitted) return Released{};
    if (state_ == State::kRefused) return Refused{WireError::from(end_error_)};
    return Failed{WireError::from(end_error_)};
  }
  if (over()) return std::nullopt;
  if (pong_) return std::exchange(pong_, std::nullopt).value();
  if (accepted_ && !accepted_sent_ && prompt_.size() == open_.prompt_tokens) {
    accepted_sent_ = true;
    state_ = State::kAccepted;
    return *accepted_;
  }
  if (!accepted_sent_) return std::nullopt;
  if (guesses_) return std::exchange(guesses_, std::nullopt).value();
  if (now >= next_progress_) {
    next_progress_ = now + limits_.progress_interval;
    return progress_;
  }
  if (done_ && !done_sent_ && prefill_sent()) {
    done_sent_ = true;
    return *done_;
  }
  return std::nullopt;
}

std::optional<OutgoingFrame> Sender::next_fragment(std::deque<SliceKey>& queue, TimePoint now) {
  Offer* offer = nullptr;
  while (!queue.empty() && (offer = find(queue.front())) == nullptr) queue.pop_front();  // acknowledged meanwhile
  if (offer == nullptr) return std::nullopt;
  if (offer->sent_bytes == 0) offer = drop_passed_over(offer->slice.key);

  const auto& parts = offer->slice.parts;
  const bool in_first = offer->sent_bytes < parts[0].size();
  const ByteSpan part =
      in_first ? parts[0].subspan(offer->sent_bytes) : parts[1].subspan(offer->sent_bytes - parts[0].size());
  const ByteSpan payload = part.first(std::min(part.size(), limits_.max_fragment_bytes));
  if (payload.size() > allowed_bytes_ - std::min(allowed_bytes_, sent_bytes_)) return std::nullopt;

  if (offer->sent_bytes == 0) {
    offer->sent_at_ns = nanoseconds(now);
    offer->sum.emplace();
  }
  // The fragment is encrypted next: what is read here is still in the processor's cache then.
  offer->sum->update(payload);
  const SliceHeader header{
      .key = offer->slice.key,
      .dtypes = flow_.dtypes(offer->slice.key.kind),
      .part_bytes = {static_cast<std::uint32_t>(parts[0].size()), static_cast<std::uint32_t>(parts[1].size())},
      .checksum = offer->sum->value(),
      .sent_at_ns = offer->sent_at_ns,
      .offset = offer->sent_bytes,
      .length = static_cast<std::uint32_t>(payload.size())};
  offer->sent_bytes += header.length;
  sent_bytes_ += header.length;
  sent_bytes_total_ += header.length;
  if (offer->sent_bytes == offer->payload_bytes()) {
    offer->sum.reset();
    queue.pop_front();
  }
  return OutgoingFrame{encode_slice_header(transfer_, generation_, header), payload};
}

}  // namespace baton::handoff
