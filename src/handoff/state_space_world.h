// For state_space_test.cpp: two nodes, what lies between them, everything that can happen to them, and a judge.
#pragma once

#include <algorithm>
#include <bit>
#include <map>
#include <memory>

#include "base/attention_window.h"
#include "base/digest.h"
#include "handoff/transfer_fixture.h"

namespace baton::handoff {

// Writes down all that decides how a machine goes on. Times count relative to now.
class StateProbe {
 public:
  StateProbe(ByteWriter& out, TimePoint now) : out_(out), now_(now) {}

  void add(const Sender& s) {
    out_.write(s.state_);
    for (const bool flag : {s.attached_, s.accepted_.has_value(), s.accepted_sent_, s.done_.has_value(), s.done_sent_,
                            s.last_word_due_, s.pong_.has_value()}) {
      out_.write(flag);
    }
    for (const std::uint64_t number : {std::uint64_t{s.generation_}, s.prompt_.size(), s.allowed_bytes_, s.sent_bytes_,
                                       std::uint64_t{s.next_step_}, s.progress_.counter, s.needed_offered_}) {
      out_.write(number);
    }
    for (const auto& [key, lane] : s.lanes_) {
      out_.write(lane.offered_up_to);
      for (const auto& offer : lane.offers) {
        add(offer.slice.key);
        out_.write(offer.sent_bytes);
      }
    }
    for (const auto* queue : {&s.urgent_, &s.bulk_, &s.spare_}) {
      out_.write(queue->size());
      for (const SliceKey& key : *queue) add(key);
    }
    for (const TimePoint time : {s.last_heard_, s.lost_at_, s.next_progress_}) add(time);
  }

  void add(const Receiver& r) {
    out_.write(r.state_);
    for (const bool flag : {r.attached_, r.accepted_, r.heard_, r.cancel_due_.has_value(), r.open_due_, r.resume_due_,
                            r.done_.has_value(), r.credit_wanted_at_.has_value()}) {
      out_.write(flag);
    }
    for (const std::uint64_t number :
         {std::uint64_t{r.generation_}, std::uint64_t{r.attempts_}, std::uint64_t{r.damages_}, r.received_bytes_,
          r.allowed_bytes_, std::uint64_t{r.prompt_sent_}, std::uint64_t{r.next_step_}, r.steps_.size(), r.steps_sent_,
          r.progress_.counter, static_cast<std::uint64_t>(r.progress_.state)}) {
      out_.write(number);
    }
    std::vector<std::pair<SliceKey, std::uint32_t>> slots;
    for (const auto& slot : r.slots_) slots.emplace_back(slot.header.key, slot.filled);
    std::ranges::sort(slots);
    for (const auto& [key, filled] : slots) {
      add(key);
      out_.write(filled);
    }
    for (const auto& [key, lane] : r.ledger_.lanes_) {
      for (const auto state : lane.states) out_.write(state);
      for (const bool held : lane.held) out_.write(held);
      for (const std::uint32_t mark :
           {lane.received_up_to, lane.held_up_to, lane.generation_floor, lane.reported_up_to}) {
        out_.write(mark);
      }
    }
    for (const TimePoint time : {r.advanced_at_, r.fed_at_, r.last_bytes_, r.lost_at_, r.asked_at_, r.next_ping_,
                                 r.next_commit_, r.credit_wanted_at_.value_or(now_)}) {
      add(time);
    }
  }

  void add(const SliceKey& key) {
    out_.write(key.kind);
    out_.write(key.layer);
    out_.write(key.first_position);
  }
  void add(TimePoint time) { out_.write(time == TimePoint::min() ? std::int64_t{1} << 60 : (time - now_).count()); }

 private:
  ByteWriter& out_;
  TimePoint now_;
};

namespace state_space {

using namespace fixture;

inline constexpr std::string_view kSmallJoint = "prefill=A:0-1,local:1-4;decode=local:0-4";

struct Scenario {
  const char* name;
  std::string_view plan;
  std::uint32_t prompt_tokens;
  std::uint32_t steps;
  int faults;
  std::uint32_t window = 0;  // of even layers; the others see everything
};

// The frames that a connection's buffers hold; more wait in the machines.
inline constexpr std::size_t kPipeFrames = 2;

// What belongs to the scenario and never changes.
struct Ground {
  explicit Ground(const Scenario& given) : scenario(given), open(open_of(given.plan, given.prompt_tokens, 2)) {
    widths.hidden_values = 2;  // with logits_values, every slice has 16 bytes or less, and the window four times that
    widths.logits_values = 4;
    for (std::uint32_t layer = 0; layer < kLayers; layer += 2) widths.kept[layer].window = given.window;
    flow = flow_of(open, widths);
    keys = prefill_keys(flow);
    for (std::uint32_t i = 0; i < given.steps; ++i)
      keys.push_back({SliceKind::kLogits, kLayers, given.prompt_tokens + i, 1});
    for (const SliceKey& key : keys) payloads.push_back(payload_of(key, flow, widths));
    prefill = keys.size() - given.steps;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (i >= prefill || !flow.may_be_dropped(keys[i])) needed |= std::uint64_t{1} << i;
    }
  }
  std::size_t index(const SliceKey& key) const {
    return static_cast<std::size_t>(std::ranges::find(keys, key) - keys.begin());
  }

  Scenario scenario;
  Widths widths = fixture::widths(2);
  Open open;
  Flow flow;
  std::vector<SliceKey> keys;  // prefill, then the steps' logits
  std::vector<Bytes> payloads;
  std::size_t prefill = 0;
  std::uint64_t needed = 0;  // one bit per key: not to be dropped
};

// Both nodes, what lies between them, and what an observer remembers in order to judge.
class World {
 public:
  explicit World(const Ground& ground) : ground_(&ground) {
    receiver_ = Receiver::create(transfer_id(), ground.open, prompt_of(ground.open.prompt_tokens), ground.widths,
                                 {.window_bytes = 1}, now_)
                    .value();
    faults_left_ = ground.scenario.faults;
  }

  // Every world that one event makes of this one.
  std::vector<World> successors() const {
    std::vector<World> worlds;
    for (const auto action : calm_actions()) worlds.push_back(after([&](World& world) { (world.*action)(); }));
    if (faults_left_ > 0) {
      for (const auto fault : faults()) {
        worlds.push_back(after([&](World& world) {
          --world.faults_left_;
          (world.*fault)();
        }));
      }
    }
    return worlds;
  }

  // The one that a fair scheduler without faults makes of it.
  World calm_successor() const {
    return after([action = calm_actions().front()](World& world) { (world.*action)(); });
  }

  // Nobody has anything left to do: released, cancelled, dead, or gone.
  bool over() const {
    return (!receiver_ || receiver_->finished()) && (!sender_ || sender_->finished()) && to_sender_.empty() &&
           to_receiver_.empty();
  }
  bool succeeded() const { return released_; }
  // Slices that may be dropped, and were.
  bool dropped_some() const { return (delivered_ | ground_->needed) != (std::uint64_t{1} << ground_->keys.size()) - 1; }
  // Whether every fault so far was one that the protocol mends: of the connection, not of a node.
  bool mendable() const { return mendable_; }

  std::uint64_t hash() const {
    ByteWriter out;
    StateProbe probe(out, now_);
    out.write(sender_.has_value());
    if (sender_) probe.add(*sender_);
    out.write(receiver_.has_value());
    if (receiver_) probe.add(*receiver_);
    for (const Pipe* pipe : {&to_sender_, &to_receiver_, &stale_}) {
      out.write(pipe->size());
      for (const Frame& frame : *pipe) out.write(frame.sum);
    }
    for (const std::uint64_t number :
         {std::uint64_t{connected_}, std::uint64_t{sender_bound_}, std::uint64_t{black_hole_}, delivered_, held_,
          std::uint64_t{offered_}, std::uint64_t{finished_}, std::uint64_t{steps_asked_}, std::uint64_t{steps_due_},
          std::uint64_t{senders_ended_}, std::uint64_t{static_cast<unsigned>(faults_left_)},
          std::uint64_t{mendable_}}) {
      out.write(number);
    }
    return checksum(out.bytes());
  }

  std::string wrong;   // the first rule that was broken
  std::string ending;  // what the receiver's end was said to be

 private:
  struct Frame {
    explicit Frame(Bytes frame) : bytes(std::make_shared<Bytes>(std::move(frame))), sum(checksum(*bytes)) {}
    std::shared_ptr<const Bytes> bytes;
    std::uint64_t sum;
  };
  using Pipe = std::vector<Frame>;
  using Action = void (World::*)();

  template <typename Change>
  World after(Change&& change) const {
    World world = *this;
    change(world);
    world.pump();
    world.judge();
    return world;
  }

  void expect(bool holds, const char* rule) {
    if (!holds && wrong.empty()) wrong = rule;
  }

  void judge() {
    if (!receiver_) return;
    expect(receiver_->staged_bytes() <= receiver_->window_bytes(), "staging stays within the window");
    expect(receiver_->prefill_complete() == holds_needed(ground_->prefill), "completeness is what was held");
    judge_salvage();
  }
  // Whether of the first `keys` all are held that may not be dropped.
  bool holds_needed(std::size_t keys) const {
    const std::uint64_t needed = ground_->needed & ((std::uint64_t{1} << keys) - 1);
    return (held_ & needed) == needed;
  }
  void judge_salvage() {
    const std::uint32_t position = receiver_->salvage_position();
    for (std::size_t i = 0; i < ground_->prefill; ++i) {
      const SliceKey& key = ground_->keys[i];
      if (!is_kept(key.kind) || key.first_position >= position) continue;
      const std::uint32_t seen = first_visible(position, ground_->widths.kept[key.layer].window);
      const bool is_held = (held_ >> i & 1) != 0;
      expect(is_held || key.end_position() <= seen, "what a salvaged prefix sees is held");
    }
  }

  // --- what can happen by itself

  std::vector<Action> calm_actions() const {
    std::vector<Action> actions;
    if (!to_sender_.empty()) actions.push_back(&World::deliver_to_sender);
    if (!to_receiver_.empty()) actions.push_back(&World::deliver_to_receiver);
    if (!stale_.empty()) actions.push_back(&World::deliver_stale);
    if (sender_unaware()) actions.push_back(&World::sender_notices);
    if (sender_ && !sender_->finished() && can_produce()) actions.push_back(&World::produce);
    if (receiver_ && (delivered_ & ~held_) != 0) actions.push_back(&World::hold);
    if (can_step()) actions.push_back(&World::ask_step);
    if (can_commit()) actions.push_back(&World::commit);
    if (receiver_ && !receiver_->attached() && !receiver_->finished()) actions.push_back(&World::connect);
    if (actions.empty()) actions.push_back(&World::pass_time);
    return actions;
  }

  bool sender_unaware() const { return sender_ && sender_->attached() && !sender_bound_ && !sender_->finished(); }
  bool can_produce() const { return !sender_accepted_ || offered_ < ground_->prefill || !finished_ || steps_due_ > 0; }
  bool can_step() const {
    return receiver_ && receiver_->accepted() && !receiver_->finished() && !ended_ && receiver_->prefill_complete() &&
           steps_asked_ < ground_->scenario.steps && holds_needed(ground_->prefill + steps_asked_);
  }
  bool can_commit() const { return receiver_ && !ended_ && !committed_ && holds_needed(ground_->keys.size()); }

  void deliver_to_sender() {
    const Frame frame = to_sender_.front();
    to_sender_.erase(to_sender_.begin());
    give_sender(*frame.bytes, true);
  }

  void deliver_stale() {
    const Frame frame = stale_.front();
    stale_.erase(stale_.begin());
    give_sender(*frame.bytes, false);
  }

  void give_sender(const Bytes& bytes, bool current) {
    const auto message = decode(bytes);
    if (!message) {
      if (current) cut();
      return;
    }
    if (!sender_ || sender_->transfer() != message->transfer) {
      if (!current) return;
      if (std::holds_alternative<Open>(message->body)) {
        sender_ =
            Sender::create(*message, ground_->widths, {.max_fragment_bytes = 16, .spare_bytes = 32}, now_).value();
        sender_bound_ = true;
        return;
      }
      if (const auto answer = answer_unknown(*message)) to_receiver_.emplace_back(encode(*answer));
      return;
    }
    for (const SenderEvent& event : sender_->receive(*message, now_)) {
      if (std::holds_alternative<Attached>(event)) {
        sender_bound_ = current;  // a stale connection's end is noticed later
      } else if (const auto* step = std::get_if<StepRequested>(&event)) {
        expect(step->position == ground_->open.prompt_tokens + steps_seen_, "steps come once and in order");
        ++steps_seen_;
        ++steps_due_;
      } else if (std::holds_alternative<ConnectionLost>(event)) {
        if (current) cut();  // the connection that the message came by
      } else if (std::holds_alternative<SenderEnded>(event)) {
        end_sender();
      }
    }
  }

  void end_sender() {
    ++senders_ended_;
    expect(senders_ended_ <= senders_made_, "a sender frees its payloads once");
  }

  void deliver_to_receiver() {
    const Frame frame = to_receiver_.front();
    to_receiver_.erase(to_receiver_.begin());
    const auto message = decode(*frame.bytes);
    if (!message) return cut();
    if (!receiver_) {
      if (const auto answer = answer_unknown(*message)) to_sender_.emplace_back(encode(*answer));
      return;
    }
    handle(receiver_->receive(*message, now_));
  }

  void handle(const std::vector<ReceiverEvent>& events) {
    for (const ReceiverEvent& event : events) {
      expect(!ended_, "nothing comes after the end or a cancel");
      if (const auto* ready = std::get_if<SliceReady>(&event)) {
        const std::size_t index = ground_->index(ready->key);
        expect(index < ground_->keys.size(), "only slices of the plan come");
        if (index >= ground_->keys.size()) return;
        expect((delivered_ >> index & 1) == 0, "no slice comes twice");
        expect(!committed_, "nothing comes after commit");
        expect(std::ranges::equal(ready->payload, ground_->payloads[index]), "payloads come as they were");
        delivered_ |= std::uint64_t{1} << index;
      } else if (std::holds_alternative<ConnectionLost>(event)) {
        cut();
      } else if (const auto* end = std::get_if<ReceiverEnded>(&event)) {
        ended_ = true;
        released_ = end->reason == ReceiverEnded::Reason::kReleased;
        ending = end->error.message;
        expect(!released_ || committed_, "only what was committed is released");
      }
    }
  }

  void sender_notices() { sender_->connection_lost(now_); }

  // The sending node's next work: a chunk, with what comes before and after it, or a decode step.
  void produce() {
    if (!sender_accepted_) {
      sender_accepted_ = true;
      sender_->accept({});
    }
    if (finished_) {
      --steps_due_;
      return offer_next();
    }
    const std::uint32_t chunk_end = offered_ < ground_->prefill ? ground_->keys[offered_].end_position() : 0;
    while (offered_ < ground_->prefill && ground_->keys[offered_].end_position() == chunk_end) offer_next();
    if (offered_ < ground_->prefill) return;
    finished_ = true;
    expect(sender_->finish(1).has_value(), "a finished prefill is taken as one");
  }

  void offer_next() {
    const OfferedSlice slice =
        offered(ground_->keys[offered_], ground_->flow, ground_->widths, ground_->payloads[offered_]);
    expect(sender_->offer(slice).has_value(), "an offer in order is taken");
    for (const SliceKey& key : sender_->take_dropped()) {
      expect(ground_->flow.may_be_dropped(key), "only what may be dropped is");
    }
    ++offered_;
  }

  // All slices that came are written.
  void hold() {
    for (std::uint64_t rest = delivered_ & ~held_; rest != 0; rest &= rest - 1) {
      receiver_->held(ground_->keys[static_cast<std::size_t>(std::countr_zero(rest))], now_);
    }
    held_ = delivered_;
  }

  void ask_step() {
    expect(receiver_->step(ground_->open.prompt_tokens + steps_asked_, 7).has_value(), "a step in order is taken");
    ++steps_asked_;
  }

  void commit() {
    expect(receiver_->commit().has_value(), "what is complete can be committed");
    committed_ = true;
  }

  void connect() {
    to_sender_.clear();
    to_receiver_.clear();
    connected_ = true;
    black_hole_ = false;
    sender_bound_ = false;  // until it hears from the new connection
    receiver_->attach(now_);
  }

  void pass_time() {
    TimePoint next = TimePoint::max();
    if (sender_) next = std::min(next, sender_->next_deadline());
    if (receiver_) next = std::min(next, receiver_->next_deadline());
    expect(next != TimePoint::max() || over(), "whoever waits has a deadline");
    if (next == TimePoint::max()) return;
    now_ = std::max(now_, next);
    if (receiver_) handle(receiver_->tick(now_));
    if (!sender_) return;
    for (const SenderEvent& event : sender_->tick(now_)) {
      if (std::holds_alternative<ConnectionLost>(event) && sender_bound_) cut();
      if (std::holds_alternative<SenderEnded>(event)) end_sender();
    }
  }

  // Moves what the machines want to send into the pipes, as far as they take it.
  void pump() {
    while (receiver_ && receiver_->attached() && to_sender_.size() < kPipeFrames) {
      const auto frame = receiver_->next(now_);
      if (!frame) break;
      if (connected_ && !black_hole_) to_sender_.emplace_back(frame_bytes(*frame));
    }
    while (sender_ && sender_->attached() && (to_receiver_.size() < kPipeFrames || !sender_bound_)) {
      const auto frame = sender_->next(now_);
      if (!frame) break;
      if (connected_ && sender_bound_ && !black_hole_) {
        to_receiver_.emplace_back(frame_bytes(*frame));
      }
    }
  }

  // --- faults

  std::vector<Action> faults() const {
    std::vector<Action> actions;
    if (connected_ && receiver_ && receiver_->attached()) {
      actions.push_back(&World::cut);
      if (!black_hole_) actions.push_back(&World::fall_silent);
    }
    for (const auto& [pipe, twice, swapped, shortened] :
         {std::tuple{&to_sender_, &World::repeat_to_sender, &World::swap_to_sender, &World::shorten_to_sender},
          std::tuple{&to_receiver_, &World::repeat_to_receiver, &World::swap_to_receiver,
                     &World::shorten_to_receiver}}) {
      if (pipe->empty()) continue;
      actions.push_back(twice);
      actions.push_back(shortened);
      if (pipe->size() > 1) actions.push_back(swapped);
    }
    if (!to_receiver_.empty()) {
      const auto message = decode(*to_receiver_.front().bytes);
      if (message && std::holds_alternative<Slice>(message->body)) actions.push_back(&World::damage);
    }
    if (sender_ && !sender_->finished()) {
      actions.push_back(&World::crash_sender);
      actions.push_back(&World::fail_sender);
    }
    if (receiver_ && !receiver_->finished()) {
      actions.push_back(&World::crash_receiver);
      actions.push_back(&World::forget_receiver);
      if (!committed_) actions.push_back(&World::cancel);
    }
    return actions;
  }

  // The receiver knows at once; the sender may notice later, and frames under way to it may still arrive.
  void cut() {
    connected_ = false;
    black_hole_ = false;
    for (const Frame& frame : to_sender_) {
      if (stale_.size() < 2) stale_.push_back(frame);
    }
    to_sender_.clear();
    to_receiver_.clear();
    sender_bound_ = false;
    if (receiver_) receiver_->connection_lost(now_);
  }
  void fall_silent() {
    black_hole_ = true;
    to_sender_.clear();
    to_receiver_.clear();
  }
  static void repeat(Pipe& pipe) { pipe.insert(pipe.begin(), Frame(pipe.front())); }
  static void swap(Pipe& pipe) { std::swap(pipe[0], pipe[1]); }
  static void shorten(Pipe& pipe) {
    const Bytes& whole = *pipe.front().bytes;
    pipe.front() = Frame({whole.begin(), whole.end() - 1});
  }
  void repeat_to_sender() { repeat(to_sender_); }
  void repeat_to_receiver() { repeat(to_receiver_); }
  // A Prompt before its Open, a Resume after the next word: TCP rules it out, so it need only do no harm.
  void swap_to_sender() {
    mendable_ = false;
    swap(to_sender_);
  }
  void swap_to_receiver() { swap(to_receiver_); }
  void shorten_to_sender() { shorten(to_sender_); }
  void shorten_to_receiver() { shorten(to_receiver_); }
  void damage() {
    Bytes bytes = *to_receiver_.front().bytes;
    bytes.back() ^= std::byte{1};
    to_receiver_.front() = Frame(std::move(bytes));
  }
  // The process dies and another takes its place, which knows nothing.
  void crash_sender() {
    mendable_ = false;
    cut();
    stale_.clear();
    sender_.reset();
    sender_accepted_ = finished_ = false;
    offered_ = 0;
    steps_due_ = steps_seen_ = 0;
    ++senders_made_;
  }
  void fail_sender() {
    mendable_ = false;
    sender_->fail({ErrorCode::kIo, "a fault", {}});
  }
  void crash_receiver() {
    mendable_ = false;
    cut();
    receiver_.reset();
  }
  // The node drops the transfer, but the connection, which others share, stays.
  void forget_receiver() {
    mendable_ = false;
    receiver_.reset();
  }
  void cancel() {
    mendable_ = false;
    receiver_->cancel({ErrorCode::kCancelled, "a fault", {}});
    ended_ = true;
  }

  const Ground* ground_;
  TimePoint now_ = kStart;
  std::optional<Receiver> receiver_;
  std::optional<Sender> sender_;
  Pipe to_sender_;
  Pipe to_receiver_;
  Pipe stale_;  // to the sender, from a connection that the receiver has closed
  bool connected_ = false;
  bool sender_bound_ = false;  // the sender writes to the current connection
  bool black_hole_ = false;    // the connection swallows everything and nobody knows
  int faults_left_ = 0;

  bool sender_accepted_ = false;
  std::size_t offered_ = 0;
  bool finished_ = false;
  std::uint32_t steps_due_ = 0;
  std::uint32_t steps_seen_ = 0;
  std::uint32_t steps_asked_ = 0;
  std::uint64_t delivered_ = 0;  // one bit per key
  std::uint64_t held_ = 0;
  bool committed_ = false;
  bool ended_ = false;
  bool released_ = false;
  bool mendable_ = true;
  std::uint32_t senders_made_ = 1;
  std::uint32_t senders_ended_ = 0;
};

}  // namespace state_space
}  // namespace baton::handoff
