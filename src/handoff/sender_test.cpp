// A sender alone, against words that a test puts into its receiver's mouth.
#include "handoff/sender.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <format>

#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;
using SenderReason = SenderEnded::Reason;
constexpr std::uint64_t kPlenty = 1 << 20;
constexpr std::string_view kTwoLayers = "prefill=A:0-2,B:2-4;decode=local:0-4";

struct SenderAlone : testing::Test {
  void open(Open of, std::uint64_t allowed_bytes = kPlenty, std::uint32_t window = 0, SenderLimits limits = {}) {
    of.allowed_bytes = allowed_bytes;
    first = of;
    sender = Sender::create({transfer_id(), 1, of}, widths(8, window), limits, now).value();
  }
  void accept(std::string_view plan = kDisaggregated, std::uint64_t allowed_bytes = kPlenty) {
    open(open_of(plan, 8, 4), allowed_bytes);
    sender->accept({.predicted_step_us = 9});
    hear(Prompt{0, prompt_of(8)});
    ASSERT_EQ(said<Accepted>().value().predicted_step_us, 9u);
  }
  std::vector<SenderEvent> hear(Body body) { return hear(sender->generation(), std::move(body)); }
  std::vector<SenderEvent> hear(std::uint32_t generation, Body body) {
    return sender->receive({transfer_id(), generation, std::move(body)}, now);
  }
  Result<void> offer(const SliceKey& key) {
    payloads.push_back(payload_of(key, sender->flow(), widths()));
    return sender->offer(offered(key, sender->flow(), widths(), payloads.back()));
  }
  void offer_all() {
    for (const SliceKey& key : prefill_keys(sender->flow())) ASSERT_TRUE(offer(key));
    ASSERT_TRUE(sender->finish(0));
  }
  // The slices that the sender sends now, as "layer:first position".
  std::vector<std::string> slices() {
    std::vector<std::string> sent;
    while (const auto frame = sender->next(now)) {
      const Bytes bytes = frame_bytes(*frame);
      const Message message = decode(bytes).value();
      const auto* slice = std::get_if<Slice>(&message.body);
      if (slice == nullptr || slice->header.offset != 0) continue;
      sent.push_back(std::format("{}:{}", slice->header.key.layer, slice->header.key.first_position));
    }
    return sent;
  }
  void accept_windowed(std::uint32_t prompt_tokens, std::uint64_t allowed_bytes = kPlenty, SenderLimits limits = {}) {
    open(open_of(kTwoLayers, prompt_tokens, 4), allowed_bytes, 3, limits);
    sender->accept({});
    hear(Prompt{0, prompt_of(prompt_tokens)});
    EXPECT_TRUE(slices().empty());
  }
  std::vector<std::string> words() {
    std::vector<std::string> all;
    while (const auto frame = sender->next(now)) {
      const Bytes bytes = frame_bytes(*frame);
      all.emplace_back(message_name(decode(bytes).value().body));
    }
    return all;
  }
  template <typename Word>
  std::optional<Word> said() {
    std::optional<Word> found;
    while (const auto frame = sender->next(now)) {
      const Bytes bytes = frame_bytes(*frame);
      const Message message = decode(bytes).value();
      if (const auto* word = std::get_if<Word>(&message.body)) found = *word;
    }
    return found;
  }

  TimePoint now = kStart;
  Open first;
  std::optional<Sender> sender;
  std::deque<Bytes> payloads;
};

TEST_F(SenderAlone, AcceptsWhenTheNodeDoesAndThePromptIsThere) {
  open(open_of(kDisaggregated, 8, 4));
  sender->accept({});
  EXPECT_TRUE(words().empty());
  EXPECT_TRUE(hear(Prompt{0, {1000, 1001, 1002}}).empty());
  EXPECT_TRUE(hear(Prompt{0, {1000, 1001, 1002}}).empty()) << "repeated";
  const auto tail = prompt_of(8);
  EXPECT_TRUE(find_event<PromptArrived>(hear(Prompt{3, {tail.begin() + 3, tail.end()}})));
  EXPECT_EQ(sender->prompt(), prompt_of(8));
  EXPECT_EQ(words(), (std::vector<std::string>{"Accepted", "Progress"}));
}

// A window of 3: of 12 tokens in chunks of 4 the first two may be dropped.
TEST_F(SenderAlone, SendsWhatMayBeDroppedWhileTheLinkHasNothingElse) {
  accept_windowed(12);
  for (const std::uint32_t position : {0u, 4u, 8u}) {
    for (const std::uint32_t layer : {0u, 1u}) ASSERT_TRUE(offer({SliceKind::kKv, layer, position, 4}));
    EXPECT_EQ(slices(), (std::vector{std::format("0:{}", position), std::format("1:{}", position)}));
    EXPECT_TRUE(sender->take_dropped().empty());
  }
  EXPECT_TRUE(sender->finish(0));
  EXPECT_EQ(said<Done>().value().slices, 6u);
}

TEST_F(SenderAlone, DropsWhatMayBeDroppedWhereWhatIsNeededWaits) {
  accept_windowed(12);
  for (const std::uint32_t position : {0u, 4u, 8u}) {
    for (const std::uint32_t layer : {0u, 1u}) ASSERT_TRUE(offer({SliceKind::kKv, layer, position, 4}));
  }
  EXPECT_EQ(slices(), (std::vector<std::string>{"0:8", "1:8"}));
  const SliceKey early{SliceKind::kKv, 0, 0, 4};
  const SliceKey later{SliceKind::kKv, 0, 4, 4};
  const auto dropped = sender->take_dropped();
  EXPECT_EQ(dropped.size(), 4u);
  EXPECT_TRUE(std::ranges::contains(dropped, early) && std::ranges::contains(dropped, later));
  EXPECT_TRUE(sender->finish(0));
  // On a new connection they do not come back.
  sender->connection_lost(now);
  hear(2, Resume{kPlenty, {}});
  EXPECT_EQ(slices(), (std::vector<std::string>{"0:8", "1:8"}));
}

TEST_F(SenderAlone, BringsToItsEndWhatItBeganAndDropsTheOldestBeyondItsLimit) {
  // A slice has 2 x 64 bytes; there is credit for the first part of one.
  accept_windowed(20, 64, {.spare_bytes = 256});
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 0, 4}));
  EXPECT_EQ(slices(), (std::vector<std::string>{"0:0"}));
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 4, 4}));
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 8, 4}));
  EXPECT_EQ(sender->take_dropped(), (std::vector<SliceKey>{{SliceKind::kKv, 0, 4, 4}}));
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 12, 4}));
  EXPECT_EQ(sender->take_dropped(), (std::vector<SliceKey>{{SliceKind::kKv, 0, 8, 4}}));
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 16, 4}));
  hear(Credit{kPlenty, {}});
  EXPECT_EQ(slices(), (std::vector<std::string>{"0:16"})) << "after the rest of 0:0";
  EXPECT_EQ(sender->take_dropped(), (std::vector<SliceKey>{{SliceKind::kKv, 0, 12, 4}}));
  EXPECT_EQ(sender->payload_bytes_sent(), 256u);
}

TEST_F(SenderAlone, LetsTheNodeLeaveOutOnlyWhatMayBeDropped) {
  accept_windowed(12);
  EXPECT_FALSE(offer({SliceKind::kLogits, kLayers, 11, 1})) << "not in this plan";
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 8, 4}));
  EXPECT_FALSE(offer({SliceKind::kKv, 0, 4, 4})) << "too late";
  EXPECT_FALSE(sender->finish(0)) << "layer 1 lacks its last chunk";
  ASSERT_TRUE(offer({SliceKind::kKv, 1, 8, 4}));
  EXPECT_TRUE(sender->finish(0));

  accept_windowed(16);
  ASSERT_TRUE(offer({SliceKind::kKv, 0, 4, 4}));
  EXPECT_TRUE(offer({SliceKind::kKv, 0, 12, 4}));
  open(open_of(kTwoLayers, 16, 4), kPlenty, 8);
  sender->accept({});
  EXPECT_FALSE(offer({SliceKind::kKv, 0, 12, 4})) << "a token at 16 sees 9";
  EXPECT_TRUE(offer({SliceKind::kKv, 0, 8, 4}));
}

TEST_F(SenderAlone, TakesNoPromptWithAGapOrPastItsEnd) {
  open(open_of(kDisaggregated, 8, 4));
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Prompt{1, {1}})));
  open(open_of(kDisaggregated, 8, 4));
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Prompt{0, std::vector<Token>(9)})));
  open(open_of(kDisaggregated, 8, 4));
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Prompt{0xffffffff, std::vector<Token>(9)})));
}

TEST_F(SenderAlone, CannotBeMadeOfAnOpenThatMakesNoSense) {
  Open open = open_of(kDisaggregated, 8, 4);
  EXPECT_TRUE(Sender::create({transfer_id(), 1, open}, widths(), {}, now));
  EXPECT_FALSE(Sender::create({transfer_id(), 1, Commit{}}, widths(), {}, now));
  EXPECT_FALSE(Sender::create({transfer_id(), 1, open}, Widths{}, {}, now)) << "the model has other layers";
  open.extensions = {{Extension::kCriticalBit | 1, {}}};
  EXPECT_EQ(Sender::create({transfer_id(), 1, open}, widths(), {}, now).error().code, ErrorCode::kUnsupported);
}

TEST_F(SenderAlone, TakesEachSliceOnceAndInOrder) {
  open(open_of(kDisaggregated, 8, 4));
  EXPECT_FALSE(offer({SliceKind::kKv, 0, 0, 4})) << "before accept()";
  accept();
  EXPECT_FALSE(offer({SliceKind::kKv, 0, 4, 4})) << "the first chunk comes first";
  EXPECT_TRUE(offer({SliceKind::kKv, 0, 0, 4}));
  EXPECT_FALSE(offer({SliceKind::kKv, 0, 0, 4}));
  EXPECT_FALSE(offer({SliceKind::kKv, 9, 0, 4}));
  EXPECT_FALSE(offer({SliceKind::kHidden, 2, 0, 4}));
  EXPECT_FALSE(sender->finish(0)) << "slices are missing";
  const Bytes small(5);
  EXPECT_FALSE(sender->offer({{SliceKind::kKv, 1, 0, 4}, {small, small}}));
}

TEST_F(SenderAlone, SendsWithinItsCreditAndDoneLast) {
  accept(kDisaggregated, 100);
  offer_all();
  EXPECT_EQ(words(), (std::vector<std::string>{"Slice", "Slice"})) << "the logits (20) and half a KV slice (64)";
  hear(Credit{kPlenty, {}});
  const auto rest = words();
  EXPECT_EQ(rest.size(), 16u);
  EXPECT_EQ(rest.back(), "Done");
  EXPECT_EQ(sender->payload_bytes_sent(), sender->flow().prefill_bytes(widths()));
  hear(Credit{5, {}});
  EXPECT_TRUE(words().empty()) << "credit does not shrink, and nothing is left";
}

TEST_F(SenderAlone, SpeaksFourTimesASecond) {
  accept();
  int progress = 0;
  sender->progress(5, WorkState::kComputing, 70);
  for (const TimePoint end = now + 2 * kSecond; now < end;) {
    now = std::max(now + kMs, sender->next_deadline());
    EXPECT_TRUE(hear(Ping{0}).empty());
    EXPECT_TRUE(sender->tick(now).empty());
    if (const auto word = said<Progress>()) {
      EXPECT_EQ(*word, (Progress{5, WorkState::kComputing, 70}));
      ++progress;
    }
  }
  EXPECT_EQ(progress, 8);
  sender->progress(4, WorkState::kIdle, 0);
  now += kSecond / 4;
  EXPECT_EQ(said<Progress>().value().counter, 5u) << "the counter never falls";
}

TEST_F(SenderAlone, TakesASilentReceiverForLostAndExpires) {
  accept();
  std::vector<SenderEvent> events;
  const auto pass = [&](Duration time) {
    events.clear();
    for (const TimePoint end = now + time; now < end;) {
      now = std::min(end, std::max(now + kMs, sender->next_deadline()));
      for (auto& event : sender->tick(now)) events.push_back(std::move(event));
      (void)words();
    }
  };
  pass(10 * kSecond - kMs);
  EXPECT_TRUE(events.empty());
  pass(2 * kMs);
  EXPECT_TRUE(find_event<ConnectionLost>(events));
  pass(30 * kSecond - 10 * kMs);
  EXPECT_TRUE(events.empty());
  pass(20 * kMs);
  EXPECT_EQ(find_event<SenderEnded>(events).value().reason, SenderReason::kExpired);
  EXPECT_TRUE(sender->finished());
  EXPECT_EQ(sender->next_deadline(), TimePoint::max());
  pass(60 * kSecond);
  EXPECT_TRUE(events.empty());
}

TEST_F(SenderAlone, FollowsOnlyNewerConnections) {
  accept();
  offer_all();
  (void)words();
  sender->connection_lost(now);
  EXPECT_TRUE(words().empty());
  EXPECT_TRUE(hear(1, Resume{kPlenty, {}}).empty()) << "an old generation";
  EXPECT_FALSE(sender->attached());
  EXPECT_TRUE(find_event<Attached>(hear(3, Resume{kPlenty, {{SliceKind::kKv, 0, 8}}})));
  EXPECT_TRUE(hear(2, Resume{kPlenty, {}}).empty());
  EXPECT_EQ(sender->generation(), 3u);
  EXPECT_EQ(words().size(), 1u + 2 * 6 + 1 + 1) << "logits, six KV slices, Progress, Done";
  EXPECT_TRUE(find_event<ConnectionLost>(hear(4, Ping{0}))) << "a new connection begins with Resume";
}

TEST_F(SenderAlone, TakesNoCreditFromAnOlderConnection) {
  accept(kDisaggregated, 0);
  offer_all();
  EXPECT_TRUE(find_event<Attached>(hear(2, Resume{0, {}})));
  (void)words();
  EXPECT_TRUE(hear(1, Credit{kPlenty, {}}).empty());
  EXPECT_TRUE(words().empty());
  EXPECT_TRUE(hear(2, Credit{kPlenty, {}}).empty());
  EXPECT_FALSE(words().empty());
}

TEST_F(SenderAlone, DoesNotBelieveWhatTheReceiverCannotHold) {
  for (const HeldRange& lie :
       {HeldRange{SliceKind::kKv, 0, 8}, HeldRange{SliceKind::kKv, 9, 4}, HeldRange{SliceKind::kHidden, 2, 4}}) {
    accept();
    ASSERT_TRUE(offer({SliceKind::kKv, 0, 0, 4}));
    EXPECT_TRUE(find_event<ConnectionLost>(hear(Credit{0, {lie}})));
  }
}

TEST_F(SenderAlone, IsNotOpenedAgainAsAnotherTransfer) {
  open(open_of(kDisaggregated, 8, 4));
  Open other = first;
  other.label = "something else";
  EXPECT_TRUE(find_event<ConnectionLost>(hear(2, other)));
  first.allowed_bytes = 7;
  EXPECT_TRUE(find_event<Attached>(hear(2, first)));
}

TEST_F(SenderAlone, TakesStepsFromTheCoordinatorInOrder) {
  accept(kPooled);
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Step{9, 1})));
  accept(kPooled);
  const auto step = find_event<StepRequested>(hear(Step{8, 77})).value();
  EXPECT_EQ(step.position, 8u);
  EXPECT_EQ(step.token, 77);
  EXPECT_TRUE(hear(Step{8, 77}).empty());
  for (std::uint32_t position = 9; position < 12; ++position) EXPECT_EQ(hear(Step{position, 1}).size(), 1u);
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Step{12, 1}))) << "four new tokens were asked for";

  Open of = open_of(kPooled, 8, 4);
  std::swap(of.sender, of.receiver);
  open(of);
  sender->accept({});
  hear(Prompt{0, prompt_of(8)});
  (void)words();
  EXPECT_TRUE(find_event<ConnectionLost>(hear(Step{8, 1}))) << "not the coordinator";
}

TEST_F(SenderAlone, FreesOnceHoweverOftenItIsAsked) {
  accept();
  offer_all();
  EXPECT_EQ(find_event<SenderEnded>(hear(Commit{})).value().reason, SenderReason::kCommitted);
  EXPECT_EQ(words(), (std::vector<std::string>{"Released"}));
  EXPECT_TRUE(hear(Commit{}).empty());
  EXPECT_EQ(words(), (std::vector<std::string>{"Released"}));
  sender->connection_lost(now);
  EXPECT_EQ(count_events<SenderEnded>(hear(2, Commit{})), 0u);
  EXPECT_EQ(words(), (std::vector<std::string>{"Released"}));
  EXPECT_TRUE(hear(Cancel{}).empty());
  EXPECT_TRUE(sender->tick(now + 100 * kSecond).empty());
  EXPECT_TRUE(sender->finished());
}

TEST_F(SenderAlone, RepeatsItsLastWordToAReceiverThatMissedIt) {
  accept();
  sender->fail({ErrorCode::kIo, "disk", {}});
  EXPECT_FALSE(sender->finished());
  EXPECT_EQ(said<Failed>().value().error.message, "disk");
  EXPECT_TRUE(sender->finished());
  sender->connection_lost(now);
  EXPECT_TRUE(find_event<Attached>(hear(2, Resume{0, {}})));
  EXPECT_EQ(said<Failed>().value().error.message, "disk");

  open(open_of(kDisaggregated, 8, 4));
  sender->refuse({ErrorCode::kNoCapacity, "full", {}});
  sender->connection_lost(now);
  EXPECT_FALSE(sender->finished());
  hear(2, first);
  EXPECT_EQ(said<Refused>().value().error.code, ErrorCode::kNoCapacity);
}

TEST_F(SenderAlone, ForgetsAReceiverThatIsTooSilentForItsLastWord) {
  accept();
  sender->fail({ErrorCode::kIo, "disk", {}});
  EXPECT_LE(sender->next_deadline(), now + 10 * kSecond);
  const auto step = [&](Duration time) {
    std::vector<SenderEvent> events;
    for (const TimePoint end = now + time; now < end && events.empty(); now += 100 * kMs) events = sender->tick(now);
    return events;
  };
  EXPECT_TRUE(find_event<ConnectionLost>(step(11 * kSecond)));
  EXPECT_FALSE(sender->finished()) << "it may come back";
  EXPECT_TRUE(step(60 * kSecond).empty());
  EXPECT_TRUE(sender->finished());
}

TEST_F(SenderAlone, AnswersPingsWithItsClock) {
  open(open_of(kDisaggregated, 8, 4));
  hear(Ping{123});
  const TimePoint heard = now;
  now += 5 * kMs;
  EXPECT_EQ(said<Pong>().value(), (Pong{123, heard.time_since_epoch().count()}));
}

}  // namespace
}  // namespace baton::handoff
