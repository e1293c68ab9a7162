// The producing side of one transfer: a state machine without socket, thread or clock. See docs/formats/kv-stream.md.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "handoff/flow.h"
#include "handoff/messages.h"

namespace baton::handoff {

// A frame to put on the connection: `head`, then `payload`, which borrows from an offered slice (empty otherwise).
struct OutgoingFrame {
  Bytes head;
  ByteSpan payload;
};

// The connection is useless: nothing came for too long, or what came broke the rules. The machine has detached itself.
// Close the connection (the one that the message came by, or that the transfer was bound to) and wait until its reader
// has stopped; the receiver's node then dials and calls attach().
struct ConnectionLost {
  Error error;
};

// A new connection carries this transfer from now on (first Open, repeated Open or Resume): bind the sender to it.
struct Attached {};

// All prompt tokens are there: see Sender::prompt().
struct PromptArrived {};

// Decode `token` at `position`. Each position comes once, in order.
struct StepRequested {
  std::uint32_t position = 0;
  Token token = 0;
};

// The text goes on with `news`; guess `most` tokens behind them and hand them to guessed(), unless that is 0.
struct GuessesWanted {
  std::uint32_t most = 0;
  std::vector<Token> news;
};

// The receiver has verified this slice; its payload is not read any more.
struct Acknowledged {
  SliceKey key;
};

// The transfer is over on this side; offered payloads are not read any more. Comes exactly once, unless the node itself
// ended it by refuse() or fail().
struct SenderEnded {
  enum class Reason { kCommitted, kCancelled, kExpired };
  Reason reason = Reason::kCommitted;
  Error error;  // why it was cancelled or expired
};

using SenderEvent =
    std::variant<Attached, PromptArrived, StepRequested, GuessesWanted, Acknowledged, ConnectionLost, SenderEnded>;

struct SenderLimits {
  std::size_t max_fragment_bytes = kMaxFragmentBytes;
  Duration progress_interval = std::chrono::milliseconds(250);
  Duration receiver_silence = std::chrono::seconds(10);  // then the connection counts as lost
  Duration grace = std::chrono::seconds(30);             // without a connection; then the transfer expires
  Duration own_stall = std::chrono::seconds(1);  // a longer pause between calls is our own and counts for nobody
  std::uint64_t spare_bytes = 16 << 20;          // of slices that may be dropped, so much waits for the link at most
};

// A slice to be sent. `parts` must stay readable and unchanged until Acknowledged, take_dropped(), SenderEnded,
// refuse() or fail(), and, for a frame that next() has handed out, until the frame is written.
struct OfferedSlice {
  SliceKey key;
  std::array<ByteSpan, kParts> parts;
};

// A value: copies are independent (they share borrowed payloads). Not thread-safe: call it from the connection's
// thread.
class Sender {
 public:
  // `opening` holds an Open. kProtocol, kUnsupported or kInvalidArgument where it cannot be served at all; answer
  // Refused.
  static Result<Sender> create(const Message& opening, Widths widths, const SenderLimits& limits, TimePoint now);

  // --- the node's side

  // Answers Open. Accepted is sent when the prompt has arrived too. Call one of the two, once, before anything else.
  void accept(const Accepted& accepted);
  void refuse(const Error& error);

  // Hands over a slice of the flow in the formats of flow().dtypes(): each once, positions of one (kind, layer) in
  // order; those that flow().may_be_dropped() may be left out. kInvalidArgument where it is not the next of its layer
  // or has the wrong size. After the transfer's end it does nothing.
  Result<void> offer(const OfferedSlice& slice);
  // Slices that were dropped since the last call, because the link was busy with what the receiver needs: their payload
  // is not read any more. Ask after offer().
  std::vector<SliceKey> take_dropped() { return std::exchange(dropped_, {}); }
  void progress(std::uint64_t counter, WorkState state, std::uint32_t predicted_next_us);
  // All prefill slices have been offered (kInvalidArgument otherwise). Also where none flow.
  Result<void> finish(std::int64_t last_compute_end_ns, std::uint32_t late_ppm = 0);
  // What was asked for by the latest GuessesWanted; a new connection is not told it again. Reading the prompt comes
  // before, and ends in finish().
  void guessed(Guesses guesses);
  // Ends the transfer with an error that the receiver is told.
  void fail(const Error& error);

  // --- the wire's side

  // Any message whose addressee is this sender. Stale generations are ignored.
  std::vector<SenderEvent> receive(const Message& message, TimePoint now);
  // The next frame: control, then hidden states and logits, then KV in the order of offers, and what may be dropped
  // only while nothing else waits; as far as credit allows. Nothing while detached. Call until it returns nothing, and
  // again after any other call.
  std::optional<OutgoingFrame> next(TimePoint now);
  // The connection is gone; a frame handed out but not written will be sent again after Resume.
  void connection_lost(TimePoint now);
  // Call at next_deadline() or later; then call next().
  std::vector<SenderEvent> tick(TimePoint now);
  TimePoint next_deadline() const;

  // --- facts

  const TransferId& transfer() const { return transfer_; }
  std::uint32_t generation() const { return generation_; }
  const Open& open() const { return open_; }
  const Flow& flow() const { return flow_; }
  const std::vector<Token>& prompt() const { return prompt_; }
  bool attached() const { return attached_; }
  // Nothing more will be sent or awaited, except an answer to a repeated Commit, which answer_unknown() can give as
  // well.
  bool finished() const;
  std::uint64_t payload_bytes_sent() const { return sent_bytes_total_; }

 private:
  friend class StateProbe;  // state_space_test.cpp compares whole states
  enum class State { kOpened, kAccepted, kCommitted, kRefused, kFailed, kCancelled, kExpired };
  struct Offer {
    OfferedSlice slice;
    std::uint64_t order = 0;
    std::optional<Checksum> sum;  // of what was sent in this generation
    std::int64_t sent_at_ns = 0;
    std::uint32_t sent_bytes = 0;  // in this generation

    std::uint64_t payload_bytes() const { return slice.parts[0].size() + slice.parts[1].size(); }
  };
  // The slices of one (kind, layer), by position, until they are acknowledged.
  struct Lane {
    std::deque<Offer> offers;
    std::uint32_t offered_up_to = 0;
  };
  using Events = std::vector<SenderEvent>;

  Sender() = default;

  bool over() const { return state_ != State::kOpened && state_ != State::kAccepted; }
  void note_call(TimePoint now);
  void attach(std::uint32_t generation, std::uint64_t allowed_bytes, TimePoint now);
  void end(State state, Error error);
  Events broken(std::string message, TimePoint now);

  Events receive_after_end(const Message& message, TimePoint now);
  Events on_open(std::uint32_t generation, const Open& open, TimePoint now);
  Events on_prompt(const Prompt& prompt, TimePoint now);
  Events on_resume(std::uint32_t generation, const Resume& resume, TimePoint now);
  Events on_credit(const Credit& credit, TimePoint now);
  Events on_step(const Step& step, TimePoint now);
  Events on_draft(Draft draft, TimePoint now);
  Events on_commit(std::uint32_t generation, TimePoint now);
  // Forgets what the receiver has; an error where it claims what it cannot have.
  Result<void> acknowledge(const std::vector<HeldRange>& held, Events& events);

  std::optional<Body> next_control(TimePoint now);
  std::optional<OutgoingFrame> next_fragment(std::deque<SliceKey>& queue, TimePoint now);
  std::deque<SliceKey>& queue_for(const SliceKey& key);
  bool spare_begun();
  void drop(SliceKey key);
  // Drops what may not follow this slice, which is about to be sent; gives it at its new place.
  Offer* drop_passed_over(SliceKey key);
  void drop_beyond_limit();
  bool prefill_sent() const;
  Lane& lane(SliceKind kind, std::uint32_t layer);
  Offer* find(const SliceKey& key);

  TransferId transfer_;
  Open open_;
  Flow flow_;
  Widths widths_;
  SenderLimits limits_;

  State state_ = State::kOpened;
  Error end_error_;
  bool attached_ = false;
  std::uint32_t generation_ = 0;
  std::vector<Token> prompt_;
  std::optional<Accepted> accepted_;  // the node's answer
  bool accepted_sent_ = false;

  std::map<std::pair<SliceKind, std::uint32_t>, Lane> lanes_;
  std::deque<SliceKey> urgent_;  // hidden states and logits to send in this generation, the front perhaps in part
  std::deque<SliceKey> bulk_;    // KV likewise
  std::deque<SliceKey> spare_;   // KV that may be dropped
  std::vector<SliceKey> dropped_;
  std::uint64_t next_order_ = 0;
  std::uint64_t needed_offered_ = 0;
  std::uint64_t allowed_bytes_ = 0;
  std::uint64_t sent_bytes_ = 0;        // in this generation
  std::uint64_t sent_bytes_total_ = 0;  // in all of them

  std::uint32_t next_step_ = 0;  // or, where guesses are wanted, the end of the text
  Progress progress_;
  std::optional<Done> done_;
  bool done_sent_ = false;
  bool last_word_due_ = false;  // Refused, Failed or Released
  std::optional<Pong> pong_;
  std::optional<Guesses> guesses_;

  TimePoint last_call_{};
  TimePoint last_heard_{};
  TimePoint lost_at_{};
  TimePoint next_progress_{};
};

}  // namespace baton::handoff
