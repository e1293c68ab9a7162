// The consuming side of one transfer, which owns it: a state machine without socket, thread or clock.
// See docs/formats/kv-stream.md.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "handoff/flow.h"
#include "handoff/ledger.h"
#include "handoff/messages.h"
#include "handoff/sender.h"

namespace baton::handoff {

// The sender has reserved everything and has the prompt. Comes once.
struct AcceptedByPeer {
  Accepted accepted;
};

// A whole slice, its checksum verified, never seen before. `payload` (first part, then second) lives in the receiver's
// staging and stays valid, also from other threads, until held(key) is called or the receiver is destroyed or assigned.
struct SliceReady {
  SliceKey key;
  PartDTypes dtypes{};
  std::array<std::size_t, kParts> part_bytes{};
  ByteSpan payload;

  ByteSpan part(std::size_t index) const {
    return index == 0 ? payload.first(part_bytes[0]) : payload.subspan(part_bytes[0], part_bytes[1]);
  }
};

// The sender says that it has sent all prefill slices.
struct DoneReceived {
  Done done;
};

// What was asked for by guess(): as many tokens of the vocabulary or fewer.
struct GuessesReceived {
  Guesses guesses;
};

// The transfer is over; comes exactly once, unless the node itself ended it by cancel(). Slices that are held stay
// good.
struct ReceiverEnded {
  enum class Reason {
    kReleased,   // after commit(): the normal end
    kRefused,    // the sender said no; another plan may work
    kFailed,     // the sender gave up
    kStageDead,  // the sender does not answer, makes no progress, or damages what it sends
  };
  Reason reason = Reason::kReleased;
  Error error;
};

using ReceiverEvent =
    std::variant<AcceptedByPeer, SliceReady, DoneReceived, GuessesReceived, ConnectionLost, ReceiverEnded>;

struct ReceiverLimits {
  std::uint64_t window_bytes = 16 << 20;  // staged at most; raised to four times the largest slice
  Duration ping_interval = std::chrono::milliseconds(500);
  Duration commit_interval = std::chrono::milliseconds(500);
  Duration credit_delay = std::chrono::milliseconds(50);  // small credits and acknowledgements wait for company so long
  Duration silence = std::chrono::seconds(2);             // no bytes: the connection is lost
  Duration accept = std::chrono::seconds(5);              // no Accepted: the stage is dead
  Duration reconnect = std::chrono::seconds(5);           // no connection: the stage is dead
  Duration stalled = std::chrono::seconds(5);             // computing without progress, or 4 x predicted if longer
  Duration own_stall = std::chrono::seconds(1);  // a longer pause between calls is our own and counts for nobody
  std::uint32_t max_damages = 3;                 // connections lost by damage before the stage counts as dead
  Duration steady = std::chrono::seconds(2);     // a connection that held so long, and still brings news, works
  std::uint32_t max_attempts = 8;                // connections in a row that did not
};

// Times are on this machine's clock where not said otherwise.
struct TransferStats {
  std::uint64_t slices = 0;              // delivered
  std::uint64_t payload_bytes = 0;       // of them
  std::uint64_t wire_payload_bytes = 0;  // of all fragments that came, lost and repeated ones too
  Duration transfer{};                   // sum over prefill KV slices of (last byte received - first byte sent)
  // When the latest prefill KV slice was held (of any prefill slice, if no KV flows).
  std::optional<TimePoint> last_held;
  std::optional<TimePoint> last_compute_end;  // of the sender's prefill
  std::optional<Duration> exposed;            // last_held - last_compute_end once the prefill is complete
  std::optional<Duration> round_trip;         // the shortest seen
  std::int64_t clock_offset_ns = 0;           // sender's clock - ours, from the ping with that round trip
  std::uint32_t connections = 0;
  std::uint32_t damages = 0;
};

// A value: copies are independent. Not thread-safe: call it from the connection's thread.
class Receiver {
 public:
  // `prompt` must have open.prompt_tokens tokens; open.allowed_bytes is filled in here.
  // kInvalidArgument, kProtocol or kUnsupported where `open` makes no sense for a model of these widths.
  static Result<Receiver> create(const TransferId& transfer, Open open, std::vector<Token> prompt, Widths widths,
                                 const ReceiverLimits& limits, TimePoint now);

  // --- the node's side

  // The slice has been written to where it belongs: its staging is free and its bytes give new credit.
  void held(const SliceKey& key, TimePoint now);
  // The coordinator asks for the token's decode step at the next position (the first is prompt_tokens). The last steps
  // without logits are repeated on a new connection; the sender knows them by their position. kInvalidArgument where
  // the receiver does not coordinate, or the position is not the next.
  Result<void> step(std::uint32_t position, Token token);
  // Where guesses are wanted: the text goes on, from where it was last said to end, and these are wanted next. One at a
  // time. kUnavailable where the connection is not the first any more: what was said on it may be lost.
  Result<void> guess(Draft draft);
  // Everything needed is here: ends in Released. kInvalidArgument unless prefill_complete(). Nothing is delivered after
  // it.
  Result<void> commit();
  // Ends the transfer now; the sender is told if it can be. No event follows.
  void cancel(const Error& error);

  // --- the wire's side

  // A new connection to the sender is up, and the reader of any former one has stopped.
  void attach(TimePoint now);
  void connection_lost(TimePoint now);
  // Any message whose addressee is this receiver. Stale generations are ignored.
  std::vector<ReceiverEvent> receive(const Message& message, TimePoint now);
  // Bytes arrived on the connection, whatever they were for: it is not silent.
  void note_bytes(TimePoint now);
  // The next frame to send, nothing while detached. Call until it returns nothing, and again after any other call.
  std::optional<OutgoingFrame> next(TimePoint now);
  // Call at next_deadline() or later; then call next().
  std::vector<ReceiverEvent> tick(TimePoint now);
  TimePoint next_deadline() const;

  // --- facts

  const TransferId& transfer() const { return transfer_; }
  std::uint32_t generation() const { return generation_; }
  const Open& open() const { return open_; }
  const Flow& expected() const { return flow_; }
  bool attached() const { return attached_; }
  bool accepted() const { return accepted_; }
  // Every prefill slice of the flow is held, but those that the sender may drop.
  bool prefill_complete() const { return ledger_.prefill_held(); }
  // Positions of (kind, layer) held, or dropped by the sender, before the first that may still come; prefix_tokens
  // where nothing has come.
  std::uint32_t held_up_to(SliceKind kind, std::uint32_t layer) const { return ledger_.held_up_to(kind, layer); }
  // The least of these over all that is kept; prompt_tokens where no KV flows.
  std::uint32_t arrived_up_to() const;
  // All KV layers of this transfer are held up to here, a border of the grid, as far as a token there sees them: go on
  // from here when the sender is dead. prompt_tokens where no KV flows.
  std::uint32_t salvage_position() const { return ledger_.salvage_position(); }
  // Over, and nothing left to send.
  bool finished() const;
  TransferStats stats() const;
  // Payload bytes in staging: never more than window_bytes().
  std::uint64_t staged_bytes() const { return occupied_bytes_; }
  std::uint64_t window_bytes() const { return window_bytes_; }
  const Progress& peer_progress() const { return progress_; }

 private:
  friend class StateProbe;  // state_space_test.cpp compares whole states
  enum class State { kOpening, kAccepted, kCommitting, kReleased, kDead, kCancelled };
  struct Slot {
    SliceHeader header;  // of its first fragment
    Bytes buffer;        // at least as long as the payload
    Checksum sum;        // of what has come so far
    std::uint32_t filled = 0;
    bool ready = false;  // verified and delivered; not held yet

    ByteSpan payload() const { return ByteSpan(buffer).first(header.payload_bytes()); }
  };
  struct PingSample {
    Duration round_trip{};
    std::int64_t offset_ns = 0;
  };
  enum class Fault { kConnection, kDamage };
  using Events = std::vector<ReceiverEvent>;

  explicit Receiver(Flow flow) : flow_(std::move(flow)), ledger_(flow_) {}

  bool over() const { return state_ == State::kReleased || state_ == State::kDead || state_ == State::kCancelled; }
  void note_call(TimePoint now);
  void note_news(TimePoint now);
  void detach(TimePoint now);
  Events broken(Fault fault, ErrorCode code, std::string message, TimePoint now);
  Events end(ReceiverEnded::Reason reason, Error error);
  Events end_without_connection();

  Events on_accepted(const Accepted& accepted, TimePoint now);
  Events on_slice(const Slice& slice, TimePoint now);
  Events on_complete(Slot& slot, TimePoint now);
  Events on_done(const Done& done, TimePoint now);
  Events on_guesses(const Guesses& guesses);
  void on_progress(const Progress& progress, TimePoint now);
  void on_pong(const Pong& pong, TimePoint now);
  Result<void> check_header(const SliceHeader& header) const;
  Result<Slot*> slot_for(const SliceHeader& header);
  Bytes take_buffer(std::size_t size);
  void put_back(Bytes buffer);

  std::uint64_t allowed_now() const { return received_bytes_ + window_bytes_ - occupied_bytes_; }
  void want_credit(TimePoint now);
  bool credit_due(TimePoint now) const;
  // Whether the sender may lack the credit for its next fragment.
  bool starved() const;
  Duration stall_limit() const;
  std::optional<Body> next_control(TimePoint now);
  std::optional<Body> next_opening();

  TransferId transfer_;
  Open open_;
  std::vector<Token> prompt_;
  ReceiverLimits limits_;
  Widths widths_;
  Flow flow_;
  SliceLedger ledger_;

  State state_ = State::kOpening;
  bool attached_ = false;
  bool accepted_ = false;
  bool heard_ = false;  // anything in this generation
  std::uint32_t generation_ = 0;
  std::uint32_t attempts_ = 0;  // connections since one worked
  std::uint32_t damages_ = 0;
  std::optional<Error> cancel_due_;

  std::vector<Slot> slots_;
  std::vector<Bytes> spare_buffers_;
  std::uint64_t largest_slice_bytes_ = 0;
  std::uint64_t window_bytes_ = 0;
  std::uint64_t occupied_bytes_ = 0;  // in slots
  std::uint64_t received_bytes_ = 0;  // in this generation
  std::uint64_t allowed_bytes_ = 0;   // last told to the sender
  std::optional<TimePoint> credit_wanted_at_;

  bool open_due_ = false;
  bool resume_due_ = false;
  std::uint32_t prompt_sent_ = 0;
  std::uint32_t next_step_ = 0;  // or, where guesses are wanted, the end of the text
  std::deque<Draft> drafts_;     // to be sent
  std::uint32_t guesses_due_ = 0;
  std::deque<Step> steps_;      // the last without logits
  std::size_t steps_sent_ = 0;  // of them, in this generation

  Progress progress_;
  std::optional<Done> done_;
  TimePoint advanced_at_{};  // when work last moved on, or could not for want of credit
  TimePoint fed_at_{};       // when a slice or Done last came
  TimePoint last_call_{};
  TimePoint last_bytes_{};
  TimePoint attached_at_{};
  TimePoint lost_at_{};
  TimePoint asked_at_{};  // when Open, or the first Commit, was sent
  TimePoint next_ping_{};
  TimePoint next_commit_{};

  std::optional<PingSample> best_ping_;
  TransferStats stats_;
  double transfer_ns_ = 0;  // sum of arrival - sent_at, each on its own clock; stats() takes out the offset
  std::uint64_t transfer_slices_ = 0;
};

}  // namespace baton::handoff
