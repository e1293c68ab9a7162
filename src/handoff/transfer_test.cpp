// Both sides of a transfer, joined by lists of frames.
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;

// A sender and a receiver in one room. Frames wait in two queues until pump() delivers them.
class Pair {
 public:
  explicit Pair(Open open, const Widths& of = widths(), ReceiverLimits limits = {}, SenderLimits sender_limits = {})
      : widths_(of), sender_limits_(sender_limits) {
    auto prompt = prompt_of(open.prompt_tokens);
    auto made = Receiver::create(transfer_id(), std::move(open), std::move(prompt), widths_, limits, now);
    EXPECT_TRUE(made) << made.error().to_string();
    receiver = std::move(*made);
    receiver->attach(now);
    pump();
  }

  // Delivers frames both ways until none are left; `stop_after` frames of payload at most.
  void pump(std::size_t stop_after = SIZE_MAX) {
    for (bool moved = true; moved;) {
      moved = false;
      while (auto frame = receiver->next(now)) {
        to_sender(frame_bytes(*frame));
        moved = true;
      }
      if (!sender) continue;
      while (auto frame = sender->next(now)) {
        if (!frame->payload.empty() && stop_after-- == 0) return;
        from_sender(frame_bytes(*frame));
        moved = true;
      }
    }
  }

  void to_sender(const Bytes& frame) {
    const Message message = decode(frame).value();
    if (!sender) {
      auto made = Sender::create(message, widths_, sender_limits_, now);
      ASSERT_TRUE(made) << made.error().to_string();
      sender = std::move(*made);
      return;
    }
    for (auto& event : sender->receive(message, now)) sender_events.push_back(std::move(event));
  }

  void from_sender(const Bytes& frame) {
    for (auto& event : receiver->receive(decode(frame).value(), now)) {
      if (const auto* ready = std::get_if<SliceReady>(&event)) {
        EXPECT_FALSE(got.contains(ready->key)) << ready->key.to_string() << " came twice";
        got[ready->key] = Bytes(ready->payload.begin(), ready->payload.end());
        if (hold_at_once) receiver->held(ready->key, now);
      }
      receiver_events.push_back(std::move(event));
    }
  }

  void offer(const SliceKey& key) {
    payloads.push_back(payload_of(key, sender->flow(), widths_));
    const auto offered_now = sender->offer(offered(key, sender->flow(), widths_, payloads.back()));
    ASSERT_TRUE(offered_now) << offered_now.error().to_string();
  }
  void offer_prefill() {
    for (const SliceKey& key : prefill_keys(sender->flow())) offer(key);
    ASSERT_TRUE(sender->finish(now.time_since_epoch().count()));
  }
  void cut() {
    sender->connection_lost(now);
    receiver->connection_lost(now);
  }
  void expect_all_came() {
    for (const SliceKey& key : prefill_keys(receiver->expected())) {
      ASSERT_TRUE(got.contains(key)) << key.to_string();
      EXPECT_EQ(got[key], payload_of(key, receiver->expected(), widths_)) << key.to_string();
    }
  }

  TimePoint now = kStart;
  bool hold_at_once = true;
  std::optional<Sender> sender;
  std::optional<Receiver> receiver;
  std::vector<SenderEvent> sender_events;
  std::vector<ReceiverEvent> receiver_events;
  std::map<SliceKey, Bytes> got;
  std::deque<Bytes> payloads;

 private:
  Widths widths_;
  SenderLimits sender_limits_;
};

TEST(Transfer, BringsEverySliceOfEveryPlan) {
  for (const std::string_view plan : {kDisaggregated, kJoint, kPooled}) {
    Pair pair(open_of(plan, 10, 4));
    pair.sender->accept({});
    pair.offer_prefill();
    pair.pump();
    EXPECT_EQ(count_events<AcceptedByPeer>(pair.receiver_events), 1u);
    EXPECT_EQ(count_events<DoneReceived>(pair.receiver_events), 1u);
    pair.expect_all_came();
    EXPECT_TRUE(pair.receiver->prefill_complete());
    EXPECT_EQ(pair.receiver->salvage_position(), 10u);
    ASSERT_TRUE(pair.receiver->commit());
    pair.pump();
    EXPECT_EQ(find_event<SenderEnded>(pair.sender_events).value().reason, SenderEnded::Reason::kCommitted);
    EXPECT_EQ(find_event<ReceiverEnded>(pair.receiver_events).value().reason, ReceiverEnded::Reason::kReleased);
    EXPECT_TRUE(pair.sender->finished());
    EXPECT_TRUE(pair.receiver->finished());
  }
}

TEST(Transfer, SendsOnlyWhatThePrefixLacks) {
  Open open = open_of(kDisaggregated, 10, 4);
  open.prefix_tokens = 4;
  Pair pair(open);
  pair.sender->accept({.prefix_tokens = 4});
  pair.offer_prefill();
  pair.pump();
  EXPECT_TRUE(pair.receiver->prefill_complete());
  EXPECT_FALSE(pair.got.contains({SliceKind::kKv, 0, 0, 4}));
  EXPECT_TRUE(pair.got.contains({SliceKind::kKv, 0, 4, 4}));
}

TEST(Transfer, StagesNoMoreThanTheWindowAndGoesOnAsSlicesAreHeld) {
  constexpr std::uint64_t kSliceBytes = 4 * (8 + 8) * 2;
  ReceiverLimits limits;
  limits.window_bytes = 1;  // raised to four slices
  Pair pair(open_of(kDisaggregated, 32, 4), widths(), limits);
  pair.hold_at_once = false;
  pair.sender->accept({});
  pair.offer_prefill();
  pair.pump();
  EXPECT_FALSE(pair.receiver->prefill_complete());
  EXPECT_LE(pair.sender->payload_bytes_sent(), 4 * kSliceBytes);
  EXPECT_GT(pair.sender->payload_bytes_sent(), 3 * kSliceBytes);

  while (!pair.receiver->prefill_complete()) {
    const auto ready = pair.got;
    const std::uint64_t sent = pair.sender->payload_bytes_sent();
    for (const auto& [key, bytes] : ready) pair.receiver->held(key, pair.now);
    pair.now += 50 * kMs;
    pair.pump();
    ASSERT_TRUE(pair.sender->payload_bytes_sent() > sent || pair.receiver->prefill_complete());
  }
  pair.expect_all_came();
}

TEST(Transfer, LetsHiddenStatesOvertakeKv) {
  Open open = open_of(kJoint, 8, 4);
  Pair pair(open);
  pair.sender->accept({});
  const Flow& flow = pair.sender->flow();
  pair.offer({SliceKind::kKv, 0, 0, 4});
  pair.offer({SliceKind::kKv, 1, 0, 4});
  pair.offer({SliceKind::kHidden, 2, 0, 4});
  pair.pump();
  std::vector<SliceKind> order;
  for (const auto& event : pair.receiver_events) {
    if (const auto* ready = std::get_if<SliceReady>(&event)) order.push_back(ready->key.kind);
  }
  EXPECT_EQ(order, (std::vector{SliceKind::kHidden, SliceKind::kKv, SliceKind::kKv}));
  EXPECT_TRUE(flow.prefill_hidden.has_value());
}

// A fragment never holds K and V at once, and the parts meet again at the receiver.
TEST(Transfer, CutsSlicesIntoFragments) {
  SenderLimits limits;
  limits.max_fragment_bytes = 24;
  Pair pair(open_of(kDisaggregated, 10, 4), widths(), {}, limits);
  pair.sender->accept({});
  pair.offer_prefill();
  while (auto frame = pair.sender->next(pair.now)) {
    const Bytes bytes = frame_bytes(*frame);
    const Message message = decode(bytes).value();
    if (const auto* slice = std::get_if<Slice>(&message.body)) {
      EXPECT_LE(slice->payload.size(), 24u);
      const std::uint32_t border = slice->header.part_bytes[0];
      EXPECT_TRUE(slice->header.offset >= border || slice->header.offset + slice->header.length <= border);
    }
    pair.from_sender(bytes);
  }
  pair.expect_all_came();
}

TEST(Transfer, ResumesFromTheFirstMissingSlice) {
  SenderLimits limits;
  limits.max_fragment_bytes = 40;
  for (std::size_t cut_after = 0; cut_after < 60; ++cut_after) {
    Pair pair(open_of(kJoint, 10, 4), widths(), {}, limits);
    pair.sender->accept({});
    pair.offer_prefill();
    pair.pump(cut_after);
    const std::uint64_t before = pair.receiver->stats().payload_bytes;
    pair.cut();
    pair.receiver->attach(pair.now);
    pair.pump();
    pair.expect_all_came();  // and none twice
    EXPECT_TRUE(pair.receiver->prefill_complete());
    EXPECT_EQ(pair.receiver->generation(), 2u);
    EXPECT_EQ(pair.sender->generation(), 2u);
    // Nothing that was whole is sent again.
    const std::uint64_t all = pair.receiver->expected().prefill_bytes(widths());
    EXPECT_LE(pair.sender->payload_bytes_sent(), all + 40 + (all - before) / 2 + 128);
    EXPECT_EQ(pair.receiver->stats().payload_bytes, all);
  }
}

TEST(Transfer, OpensAgainWhereTheFirstOpenWasNotAnswered) {
  Pair pair(open_of(kDisaggregated, 8, 4));
  pair.cut();
  pair.receiver->attach(pair.now);
  pair.pump();
  pair.sender->accept({});
  pair.pump();
  EXPECT_TRUE(pair.receiver->accepted());
  EXPECT_EQ(count_events<Attached>(pair.sender_events), 1u);
  EXPECT_EQ(count_events<PromptArrived>(pair.sender_events), 1u) << "it was whole already";
  EXPECT_EQ(pair.sender->prompt(), prompt_of(8));
}

TEST(Transfer, CarriesALongPromptInSeveralFrames) {
  const std::uint32_t tokens = 2 * kTokensPerPromptFrame + 5;
  Pair pair(open_of(kPooled, tokens, 512));
  EXPECT_EQ(pair.sender->prompt(), prompt_of(tokens));
  EXPECT_EQ(count_events<PromptArrived>(pair.sender_events), 1u);
}

TEST(Transfer, RunsDecodeStepsAndRepeatsThemAfterACut) {
  Pair pair(open_of(kPooled, 8, 4));
  pair.sender->accept({});
  pair.offer_prefill();
  pair.pump();
  for (std::uint32_t i = 0; i < 4; ++i) {
    const std::uint32_t position = 8 + i;
    ASSERT_TRUE(pair.receiver->step(position, static_cast<Token>(70 + i)));
    if (i == 1) pair.cut();  // the step is lost
    if (i == 1) pair.receiver->attach(pair.now);
    pair.pump();
    ASSERT_EQ(count_events<StepRequested>(pair.sender_events), i + 1);
    if (i == 2) pair.cut();  // its answer is lost
    pair.offer({SliceKind::kLogits, kLayers, position, 1});
    if (i == 2) pair.receiver->attach(pair.now);
    pair.pump();
    ASSERT_TRUE(pair.got.contains({SliceKind::kLogits, kLayers, position, 1}));
  }
  EXPECT_EQ(count_events<StepRequested>(pair.sender_events), 4u);
  EXPECT_FALSE(pair.receiver->step(12, 1)) << "max_new_tokens is 4";
  EXPECT_FALSE(pair.receiver->step(9, 1));
}

TEST(Transfer, TellsTheSenderWhatItNeedNotKeep) {
  Pair pair(open_of(kJoint, 8, 4));
  pair.sender->accept({});
  pair.offer_prefill();
  pair.pump();
  pair.now += 100 * kMs;
  (void)pair.receiver->tick(pair.now);
  pair.pump();
  EXPECT_EQ(count_events<Acknowledged>(pair.sender_events), prefill_keys(pair.sender->flow()).size());
}

TEST(Transfer, TakesADamagedSliceAgain) {
  Pair pair(open_of(kDisaggregated, 8, 4));
  pair.sender->accept({});
  pair.offer_prefill();
  bool damaged = false;
  while (auto frame = pair.sender->next(pair.now)) {
    Bytes bytes = frame_bytes(*frame);
    if (!damaged && !frame->payload.empty()) bytes.back() ^= std::byte{1};
    damaged = damaged || !frame->payload.empty();
    pair.from_sender(bytes);
  }
  EXPECT_TRUE(damaged);
  EXPECT_EQ(find_event<ConnectionLost>(pair.receiver_events).value().error.code, ErrorCode::kCorrupt);
  EXPECT_EQ(count_events<SliceReady>(pair.receiver_events), 0u);
  pair.sender->connection_lost(pair.now);
  pair.receiver->attach(pair.now);
  pair.pump();
  pair.expect_all_came();
  EXPECT_EQ(pair.receiver->stats().damages, 1u);
}

TEST(Transfer, CanBeCancelledAtAnyFrame) {
  for (std::size_t after = 0; after < 20; ++after) {
    Pair pair(open_of(kDisaggregated, 8, 4));
    pair.sender->accept({});
    pair.offer_prefill();
    pair.pump(after);
    const std::size_t events = pair.receiver_events.size();
    pair.receiver->cancel({ErrorCode::kCancelled, "enough", {}});
    EXPECT_FALSE(pair.receiver->finished());
    pair.pump();
    EXPECT_TRUE(pair.receiver->finished());
    EXPECT_EQ(pair.receiver_events.size(), events);
    const auto ended = find_event<SenderEnded>(pair.sender_events).value();
    EXPECT_EQ(ended.reason, SenderEnded::Reason::kCancelled);
    EXPECT_EQ(ended.error.message, "enough");
    EXPECT_TRUE(pair.sender->finished());
  }
}

TEST(Transfer, TellsRefusalsAndFailures) {
  Pair refused(open_of(kDisaggregated, 8, 4));
  refused.sender->refuse({ErrorCode::kNoCapacity, "full", {}});
  refused.pump();
  const auto refusal = find_event<ReceiverEnded>(refused.receiver_events).value();
  EXPECT_EQ(refusal.reason, ReceiverEnded::Reason::kRefused);
  EXPECT_EQ(refusal.error.code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(refused.sender->finished());

  Pair failed(open_of(kDisaggregated, 8, 4));
  failed.sender->accept({});
  for (const SliceKey& key : {SliceKey{SliceKind::kKv, 0, 0, 4}, SliceKey{SliceKind::kKv, 1, 0, 4}}) failed.offer(key);
  failed.pump();
  failed.sender->fail({ErrorCode::kIo, "disk", {}});
  failed.pump();
  const auto failure = find_event<ReceiverEnded>(failed.receiver_events).value();
  EXPECT_EQ(failure.reason, ReceiverEnded::Reason::kFailed);
  EXPECT_EQ(failure.error.message, "disk");
  EXPECT_EQ(failed.receiver->salvage_position(), 0u);
  EXPECT_EQ(failed.receiver->held_up_to(SliceKind::kKv, 1), 4u);
  EXPECT_TRUE(failed.sender_events.empty() || count_events<SenderEnded>(failed.sender_events) == 0);
}

TEST(Transfer, MeasuresWhatWasExposedOnTheReceiversClock) {
  constexpr Duration kAhead = std::chrono::hours(5);  // the sender's clock
  Open open = open_of(kDisaggregated, 4, 4);
  auto receiver = Receiver::create(transfer_id(), open, prompt_of(4), widths(), {}, kStart).value();
  receiver.attach(kStart);
  std::optional<Sender> sender;
  TimePoint now = kStart;
  std::size_t slices = 0;
  const auto exchange = [&](Duration latency) {
    std::vector<Bytes> frames;
    while (auto frame = receiver.next(now)) frames.push_back(frame_bytes(*frame));
    now += latency;
    for (const Bytes& frame : frames) {
      const Message message = decode(frame).value();
      if (!sender)
        sender = Sender::create(message, widths(), {}, now + kAhead).value();
      else
        (void)sender->receive(message, now + kAhead);
    }
    frames.clear();
    while (auto frame = sender->next(now + kAhead)) frames.push_back(frame_bytes(*frame));
    now += latency;
    for (const Bytes& frame : frames) {
      for (const auto& event : receiver.receive(decode(frame).value(), now)) {
        const auto* ready = std::get_if<SliceReady>(&event);
        if (ready != nullptr) receiver.held(ready->key, now);
        slices += ready != nullptr ? 1 : 0;
      }
    }
  };
  exchange(3 * kMs);
  sender->accept({});
  std::deque<Bytes> payloads;
  for (const SliceKey& key : prefill_keys(sender->flow())) {
    payloads.push_back(payload_of(key, sender->flow(), widths()));
    ASSERT_TRUE(sender->offer(offered(key, sender->flow(), widths(), payloads.back())));
  }
  ASSERT_TRUE(sender->finish((now + kAhead).time_since_epoch().count()));
  exchange(3 * kMs);
  ASSERT_EQ(slices, 5u);
  const TransferStats stats = receiver.stats();
  EXPECT_EQ(stats.round_trip.value(), 6 * kMs);
  EXPECT_EQ(stats.clock_offset_ns, kAhead.count());
  EXPECT_EQ(stats.exposed.value(), 6 * kMs);  // the frames waited 3 ms for the exchange to begin
  EXPECT_EQ(stats.transfer, 4 * (3 * kMs));   // four KV slices, 3 ms each
  EXPECT_EQ(stats.last_compute_end.value(), now - 6 * kMs);
}

}  // namespace
}  // namespace baton::handoff
