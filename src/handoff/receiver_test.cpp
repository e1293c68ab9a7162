// A receiver alone, against words that a test puts into its sender's mouth.
#include "handoff/receiver.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/digest.h"
#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;
using ReceiverReason = ReceiverEnded::Reason;

struct ReceiverAlone : testing::Test {
  void open(Open of, ReceiverLimits limits = {}) {
    auto prompt = prompt_of(of.prompt_tokens);
    receiver = Receiver::create(transfer_id(), std::move(of), std::move(prompt), of_widths, limits, now).value();
    receiver->attach(now);
    (void)drain();
  }
  void accept(std::string_view plan = kDisaggregated, ReceiverLimits limits = {}) {
    open(open_of(plan, 8, 4), limits);
    hear(Accepted{});
    ASSERT_TRUE(receiver->accepted());
  }

  std::vector<ReceiverEvent> hear(Body body) {
    return receiver->receive({transfer_id(), receiver->generation(), std::move(body)}, now);
  }

  // A whole slice of the flow in one fragment per part.
  std::vector<ReceiverEvent> hear_slice(const SliceKey& key, Duration each = {}) {
    const Flow& flow = receiver->expected();
    const Bytes payload = payload_of(key, flow, widths());
    const auto sizes = part_bytes(key, flow.dtypes(key.kind), widths());
    SliceHeader header{.key = key,
                       .dtypes = flow.dtypes(key.kind),
                       .part_bytes = {static_cast<std::uint32_t>(sizes[0]), static_cast<std::uint32_t>(sizes[1])},
                       .offset = 0,
                       .length = static_cast<std::uint32_t>(sizes[0])};
    header.checksum = checksum(ByteSpan(payload).first(sizes[0]));
    auto events = hear(Slice{header, ByteSpan(payload).first(sizes[0])});
    if (sizes[1] == 0) return events;
    now += each;
    header.offset = header.length;
    header.length = static_cast<std::uint32_t>(sizes[1]);
    header.checksum = checksum(payload);
    return hear(Slice{header, ByteSpan(payload).subspan(sizes[0])});
  }

  std::vector<Message> drain() {
    std::vector<Message> messages;
    while (const auto frame = receiver->next(now)) messages.push_back(decode(frame->head).value());
    return messages;
  }
  template <typename Word>
  std::optional<Word> said() {
    for (const Message& message : drain()) {
      if (const auto* word = std::get_if<Word>(&message.body)) return *word;
    }
    return std::nullopt;
  }

  // Lets time pass as a node does, deadline by deadline; `words` are heard every quarter of a second.
  std::vector<ReceiverEvent> pass(Duration time, std::optional<Body> words = std::nullopt) {
    const TimePoint end = now + time;
    TimePoint next_word = now;
    std::vector<ReceiverEvent> all;
    const auto add = [&](std::vector<ReceiverEvent> events) {
      for (auto& event : events) all.push_back(std::move(event));
    };
    while (now < end) {
      if (words && now >= next_word) {
        add(hear(*words));
        next_word += 250 * kMs;
      }
      (void)drain();
      now = std::min({end, std::max(receiver->next_deadline(), now + kMs), words ? next_word : end});
      add(receiver->tick(now));
    }
    (void)drain();
    return all;
  }

  TimePoint now = kStart;
  Widths of_widths = widths();
  std::optional<Receiver> receiver;
};

TEST_F(ReceiverAlone, OpensWithEverythingItKnows) {
  Open open = open_of(kDisaggregated, 8, 4);
  receiver = Receiver::create(transfer_id(), open, prompt_of(8), widths(), {}, now).value();
  EXPECT_FALSE(receiver->next(now)) << "nothing before there is a connection";
  receiver->attach(now);
  const auto messages = drain();
  ASSERT_EQ(messages.size(), 3u);
  open.allowed_bytes = receiver->window_bytes();
  EXPECT_EQ(std::get<Open>(messages[0].body), open);
  EXPECT_EQ(messages[0].generation, 1u);
  EXPECT_EQ(std::get<Prompt>(messages[1].body), (Prompt{0, prompt_of(8)}));
  EXPECT_EQ(std::get<Ping>(messages[2].body).receiver_time_ns, now.time_since_epoch().count());
}

TEST_F(ReceiverAlone, RefusesAnOpenThatMakesNoSense) {
  const auto created = [&](auto change, std::uint32_t kv_values = 32) {
    Open open = open_of(kDisaggregated, 8, 4);
    change(open);
    return Receiver::create(transfer_id(), open, prompt_of(8), widths(kv_values), {}, now);
  };
  EXPECT_TRUE(created([](Open&) {}));
  EXPECT_FALSE(created([](Open& open) { open.prompt_tokens = 9; })) << "the prompt has 8";
  EXPECT_FALSE(created([](Open& open) { open.receiver = 1; }));
  EXPECT_TRUE(created([](Open& open) { open.codec = DType::kQ8_0; }));
  EXPECT_EQ(created([](Open& open) { open.codec = DType::kQ8_0; }, 40).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(Receiver::create({}, open_of(kDisaggregated, 8, 4), prompt_of(8), widths(), {}, now));
}

TEST_F(ReceiverAlone, TakesTwoSecondsOfSilenceForALostConnection) {
  accept();
  EXPECT_TRUE(pass(2 * kSecond - kMs).empty());
  const auto events = pass(2 * kMs);
  EXPECT_EQ(find_event<ConnectionLost>(events).value().error.code, ErrorCode::kTimeout);
  EXPECT_FALSE(receiver->attached());
  EXPECT_FALSE(receiver->next(now));
}

TEST_F(ReceiverAlone, CountsAnyBytesOfTheConnectionAsLife) {
  accept();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(pass(kSecond).empty());
    receiver->note_bytes(now);
  }
  EXPECT_TRUE(receiver->attached());
}

TEST_F(ReceiverAlone, GivesUpAfterFiveSecondsWithoutAConnection) {
  accept();
  receiver->connection_lost(now);
  EXPECT_TRUE(pass(5 * kSecond - kMs).empty());
  EXPECT_EQ(find_event<ReceiverEnded>(pass(2 * kMs)).value().reason, ReceiverReason::kStageDead);
  EXPECT_TRUE(receiver->finished());
  EXPECT_EQ(receiver->next_deadline(), TimePoint::max());
}

TEST_F(ReceiverAlone, GivesUpWhereConnectionsComeAndGoWithoutAWord) {
  accept(kDisaggregated, {.max_attempts = 1000});
  receiver->connection_lost(now);
  std::vector<ReceiverEvent> events;
  for (int i = 0; i < 50 && events.empty(); ++i) {
    events = pass(400 * kMs);
    receiver->attach(now);
    receiver->connection_lost(now);
  }
  EXPECT_EQ(find_event<ReceiverEnded>(events).value().reason, ReceiverReason::kStageDead);
  EXPECT_LE(now - kStart, 5 * kSecond + 400 * kMs);
}

TEST_F(ReceiverAlone, GivesUpWhereConnectionsBringNothingNew) {
  accept();
  int attempts = 0;
  for (; attempts < 100 && !receiver->finished(); ++attempts) {
    hear(Progress{0, WorkState::kIdle, 0});
    receiver->connection_lost(now);
    (void)receiver->tick(now);
    receiver->attach(now);
  }
  EXPECT_LE(attempts, 9);
}

TEST_F(ReceiverAlone, GivesUpWhereNoConnectionHolds) {
  const auto attempts_of = [&](Duration each) {
    accept();
    int attempts = 0;
    for (; attempts < 100 && !receiver->finished(); ++attempts) {
      now += each;
      hear(Progress{static_cast<std::uint64_t>(attempts) + 1, WorkState::kIdle, 0});
      receiver->connection_lost(now);
      (void)receiver->tick(now);
      receiver->attach(now);
    }
    return attempts;
  };
  EXPECT_LE(attempts_of(kSecond), 9);
  EXPECT_EQ(attempts_of(2 * kSecond), 100) << "those hold, and bring something";
}

TEST_F(ReceiverAlone, NoticesDamageAtTheFragmentThatHasIt) {
  accept();
  const SliceKey key{SliceKind::kKv, 0, 0, 4};
  const Bytes payload = payload_of(key, receiver->expected(), widths());
  const SliceHeader header{.key = key,
                           .dtypes = {DType::kF16, DType::kF16},
                           .part_bytes = {64, 64},
                           .checksum = checksum(payload),
                           .offset = 0,
                           .length = 32};
  const auto events = hear(Slice{header, ByteSpan(payload).first(32)});
  EXPECT_EQ(find_event<ConnectionLost>(events).value().error.code, ErrorCode::kCorrupt);
}

TEST_F(ReceiverAlone, WaitsFiveSecondsForAnAnswerToOpen) {
  open(open_of(kDisaggregated, 8, 4));
  EXPECT_TRUE(pass(5 * kSecond - 10 * kMs, Pong{0, 0}).empty());
  EXPECT_EQ(find_event<ReceiverEnded>(pass(20 * kMs, Pong{0, 0})).value().reason, ReceiverReason::kStageDead);
}

TEST_F(ReceiverAlone, TakesAStageThatComputesWithoutProgressForDead) {
  accept();
  const Progress frozen{3, WorkState::kComputing, 1000};
  EXPECT_TRUE(pass(5 * kSecond - 10 * kMs, frozen).empty());
  EXPECT_EQ(find_event<ReceiverEnded>(pass(20 * kMs, frozen)).value().reason, ReceiverReason::kStageDead);
  EXPECT_TRUE(receiver->finished()) << "the Cancel has been said";
}

TEST_F(ReceiverAlone, TellsADeadStageThatItIsCancelled) {
  accept();
  hear(Progress{3, WorkState::kComputing, 1000});
  for (int i = 0; i < 100 && find_event<ReceiverEnded>(receiver->tick(now)) == std::nullopt; ++i) {
    now += 250 * kMs;
    receiver->note_bytes(now);
  }
  EXPECT_FALSE(receiver->finished());
  EXPECT_TRUE(said<Cancel>());
  EXPECT_TRUE(receiver->finished());
}

TEST_F(ReceiverAlone, GivesASlowStageFourTimesWhatItPredicted) {
  accept();
  const Progress slow{3, WorkState::kComputing, 3'000'000};
  EXPECT_TRUE(pass(12 * kSecond - 10 * kMs, slow).empty());
  EXPECT_EQ(find_event<ReceiverEnded>(pass(20 * kMs, slow)).value().reason, ReceiverReason::kStageDead);
}

TEST_F(ReceiverAlone, LetsAStageWaitForInputOrIdle) {
  accept();
  EXPECT_TRUE(pass(60 * kSecond, Progress{3, WorkState::kWaitingForInput, 0}).empty());
  EXPECT_TRUE(pass(60 * kSecond, Progress{3, WorkState::kIdle, 0}).empty());
  EXPECT_TRUE(pass(4 * kSecond, Progress{3, WorkState::kComputing, 0}).empty()) << "the time counts from its start";
}

TEST_F(ReceiverAlone, DoesNotCountTimeInWhichItGaveNoCredit) {
  accept(kDisaggregated, {.window_bytes = 1});
  for (std::uint32_t layer = 0; layer < 4; ++layer) hear_slice({SliceKind::kKv, layer, 0, 4});
  EXPECT_EQ(receiver->staged_bytes(), receiver->window_bytes());
  const Progress stuck{3, WorkState::kComputing, 1000};
  EXPECT_TRUE(pass(30 * kSecond, stuck).empty());
  receiver->held({SliceKind::kKv, 0, 0, 4}, now);
  EXPECT_TRUE(pass(5 * kSecond - 100 * kMs, stuck).empty());
  EXPECT_EQ(find_event<ReceiverEnded>(pass(kSecond, stuck)).value().reason, ReceiverReason::kStageDead);
}

TEST_F(ReceiverAlone, BlamesNobodyForItsOwnPause) {
  accept();
  hear(Progress{3, WorkState::kComputing, 1000});
  now += 60 * kSecond;  // the process was stopped; the sender's words lie in the socket
  EXPECT_TRUE(receiver->tick(now).empty());
  EXPECT_TRUE(hear(Progress{4, WorkState::kComputing, 1000}).empty());
  EXPECT_TRUE(receiver->attached());
}

TEST_F(ReceiverAlone, AsksAgainWhereDoneCameButSlicesDidNot) {
  accept();
  hear_slice({SliceKind::kKv, 0, 0, 4});
  const Flow& flow = receiver->expected();
  hear(Done{flow.prefill_slices(), flow.prefill_bytes(widths()), 0});
  EXPECT_TRUE(pass(2 * kSecond - 10 * kMs, Progress{}).empty());
  EXPECT_TRUE(find_event<ConnectionLost>(pass(20 * kMs, Progress{})));
  receiver->attach(now);
  EXPECT_EQ(said<Resume>().value().held, (std::vector<HeldRange>{{SliceKind::kKv, 0, 4}}));
}

TEST_F(ReceiverAlone, RepeatsCommitUntilReleased) {
  accept();
  for (const SliceKey& key : prefill_keys(receiver->expected())) {
    EXPECT_FALSE(receiver->commit());
    hear_slice(key);
    receiver->held(key, now);
  }
  ASSERT_TRUE(receiver->commit());
  EXPECT_TRUE(said<Commit>());
  EXPECT_FALSE(said<Commit>());
  now += 500 * kMs;
  EXPECT_TRUE(said<Commit>());
  receiver->connection_lost(now);
  receiver->attach(now);
  EXPECT_TRUE(said<Commit>());
  const auto events = hear(Released{});
  EXPECT_EQ(find_event<ReceiverEnded>(events).value().reason, ReceiverReason::kReleased);
  EXPECT_TRUE(receiver->finished());
}

TEST_F(ReceiverAlone, DeliversNothingAfterCommit) {
  accept(kPooled);
  const SliceKey prompt_logits{SliceKind::kLogits, kLayers, 7, 1};
  EXPECT_TRUE(find_event<SliceReady>(hear_slice(prompt_logits)));
  receiver->held(prompt_logits, now);
  ASSERT_TRUE(receiver->commit());
  EXPECT_TRUE(hear_slice({SliceKind::kLogits, kLayers, 8, 1}).empty());
  EXPECT_TRUE(receiver->attached());
}

TEST_F(ReceiverAlone, HasSucceededOnceItCommittedWhateverBecomesOfTheSender) {
  for (const int way : {0, 1, 2}) {
    accept();
    for (const SliceKey& key : prefill_keys(receiver->expected())) {
      hear_slice(key);
      receiver->held(key, now);
    }
    ASSERT_TRUE(receiver->commit());
    std::vector<ReceiverEvent> events;
    if (way == 0) events = hear(Refused{{ErrorCode::kNotFound, "restarted"}});
    if (way == 1) events = pass(6 * kSecond, Pong{0, 0});
    if (way == 2) receiver->connection_lost(now);
    if (way == 2) events = pass(6 * kSecond);
    EXPECT_EQ(find_event<ReceiverEnded>(events).value().reason, ReceiverReason::kReleased) << way;
  }
}

TEST_F(ReceiverAlone, DiesOfTheFourthDamage) {
  accept();
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(find_event<ConnectionLost>(hear(Slice{}))) << i;
    const auto events = receiver->tick(now);
    EXPECT_EQ(find_event<ReceiverEnded>(events).has_value(), i == 3) << i;
    receiver->attach(now);
  }
  EXPECT_EQ(receiver->stats().damages, 4u);
}

TEST_F(ReceiverAlone, TakesNothingThatIsNotPartOfTheTransfer) {
  const SliceKey good{SliceKind::kKv, 0, 0, 4};
  const auto damages_with = [&](auto change) {
    accept();
    SliceHeader header{.key = good,
                       .dtypes = {DType::kF16, DType::kF16},
                       .part_bytes = {64, 64},
                       .checksum = checksum(Bytes(64)),
                       .offset = 0,
                       .length = 64};
    change(header);
    const Bytes bytes(header.length);
    hear(Slice{header, bytes});
    return receiver->stats().damages;
  };
  EXPECT_EQ(damages_with([](SliceHeader&) {}), 0u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.key.layer = 4; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.key.first_position = 2; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.key.tokens = 3; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.key.kind = SliceKind::kRecurrent; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.dtypes = {DType::kQ8_0, DType::kQ8_0}; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.part_bytes = {64, 65}; }), 1u);
  EXPECT_EQ(damages_with([](SliceHeader& header) { header.offset = 64; }), 1u) << "the first fragment is missing";
}

TEST_F(ReceiverAlone, NeedsOnlyTheLastWindowAndTakesWhatWasPassedOverForDropped) {
  of_widths = widths(8, 3);
  accept();  // 8 tokens in chunks of 4: the first may be dropped
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const SliceKey key{SliceKind::kKv, layer, 4, 4};
    EXPECT_TRUE(find_event<SliceReady>(hear_slice(key)));
    receiver->held(key, now);
  }
  const SliceKey logits{SliceKind::kLogits, kLayers, 7, 1};
  EXPECT_FALSE(receiver->prefill_complete());
  hear_slice(logits);
  receiver->held(logits, now);
  EXPECT_TRUE(receiver->prefill_complete());
  EXPECT_EQ(receiver->arrived_up_to(), 8u);
  EXPECT_EQ(receiver->salvage_position(), 8u);

  hear_slice({SliceKind::kKv, 0, 0, 4});
  EXPECT_FALSE(receiver->attached());
  EXPECT_EQ(receiver->stats().damages, 1u);
  receiver->attach(now);
  const auto resume = said<Resume>();
  ASSERT_TRUE(resume);
  EXPECT_TRUE(std::ranges::contains(resume->held, HeldRange{SliceKind::kKv, 0, 8})) << "nothing is asked for again";
  EXPECT_TRUE(receiver->commit());
}

// As a sender would that works out otherwise what may be dropped.
TEST_F(ReceiverAlone, MissesWhatIsDroppedThoughItIsNeeded) {
  of_widths = widths(8, 6);
  accept();  // 8 tokens in chunks of 4: a token behind them sees the first chunk's last
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    const SliceKey key{SliceKind::kKv, layer, 4, 4};
    EXPECT_TRUE(find_event<SliceReady>(hear_slice(key)));
    receiver->held(key, now);
  }
  const SliceKey logits{SliceKind::kLogits, kLayers, 7, 1};
  hear_slice(logits);
  receiver->held(logits, now);
  const Flow& flow = receiver->expected();
  hear(Done{flow.prefill_slices(), flow.prefill_bytes(of_widths), 0});
  EXPECT_FALSE(receiver->prefill_complete());
  EXPECT_FALSE(receiver->commit());
  EXPECT_EQ(receiver->salvage_position(), 0u);
  EXPECT_TRUE(find_event<ConnectionLost>(pass(2 * kSecond + 10 * kMs, Progress{})));
  EXPECT_EQ(receiver->stats().damages, 1u);
}

TEST_F(ReceiverAlone, TakesFragmentsOnlyOneAfterTheOther) {
  const SliceKey key{SliceKind::kKv, 0, 0, 4};
  const auto hears = [&](std::uint32_t offset, std::uint32_t length) {
    const Bytes payload = payload_of(key, receiver->expected(), widths());
    const SliceHeader header{.key = key,
                             .dtypes = {DType::kF16, DType::kF16},
                             .part_bytes = {64, 64},
                             .checksum = checksum(ByteSpan(payload).first(offset + length)),
                             .offset = offset,
                             .length = length};
    return hear(Slice{header, ByteSpan(payload).subspan(offset, length)});
  };
  for (const auto& [offset, length] : {std::pair{48u, 16u}, std::pair{12u, 28u}, std::pair{64u, 64u}}) {
    accept();
    EXPECT_TRUE(hears(0, 24).empty());
    EXPECT_TRUE(find_event<ConnectionLost>(hears(offset, length))) << offset;
  }
  accept();
  EXPECT_TRUE(hears(0, 24).empty());
  EXPECT_TRUE(hears(0, 24).empty()) << "repeated";
  EXPECT_TRUE(hears(24, 40).empty());
  EXPECT_TRUE(find_event<SliceReady>(hears(64, 64)));
  EXPECT_TRUE(hears(64, 64).empty()) << "repeated";
  EXPECT_EQ(receiver->staged_bytes(), 128u);
}

// A Resume cannot name what lies behind a gap, so the sender repeats it: dropped, but its credit is given back.
TEST_F(ReceiverAlone, DropsWhatItHeldBehindAGap) {
  accept(kDisaggregated, {.window_bytes = 1});
  const SliceKey first{SliceKind::kKv, 0, 0, 4};
  const SliceKey second{SliceKind::kKv, 0, 4, 4};
  EXPECT_TRUE(find_event<SliceReady>(hear_slice(second)));
  receiver->held(second, now);
  receiver->connection_lost(now);
  receiver->attach(now);
  EXPECT_TRUE(said<Resume>().value().held.empty());
  EXPECT_TRUE(find_event<SliceReady>(hear_slice(first)));
  EXPECT_FALSE(find_event<SliceReady>(hear_slice(second)));
  receiver->held(first, now);
  now += 50 * kMs;
  const Credit credit = said<Credit>().value();
  EXPECT_EQ(credit.allowed_bytes, receiver->window_bytes() + 256);
  EXPECT_EQ(credit.held, (std::vector<HeldRange>{{SliceKind::kKv, 0, 8}}));
}

TEST_F(ReceiverAlone, TakesNoMoreThanItGaveCreditFor) {
  accept(kDisaggregated, {.window_bytes = 1});
  for (std::uint32_t layer = 0; layer < 4; ++layer) {
    EXPECT_TRUE(find_event<SliceReady>(hear_slice({SliceKind::kKv, layer, 0, 4})));
  }
  hear_slice({SliceKind::kKv, 0, 4, 4});
  EXPECT_EQ(receiver->stats().damages, 1u);
  EXPECT_EQ(receiver->stats().slices, 4u);
}

TEST_F(ReceiverAlone, IgnoresWordsOfAnOlderConnection) {
  accept();
  receiver->connection_lost(now);
  receiver->attach(now);
  EXPECT_TRUE(receiver->receive({transfer_id(), 1, Failed{{ErrorCode::kIo, "late"}}}, now).empty());
  EXPECT_TRUE(receiver->receive({transfer_id(99), 2, Failed{{ErrorCode::kIo, "another's"}}}, now).empty());
  EXPECT_TRUE(receiver->attached());
  EXPECT_TRUE(find_event<ConnectionLost>(receiver->receive({transfer_id(), 3, Progress{}}, now)));
}

TEST_F(ReceiverAlone, KeepsPayloadsInPlaceUntilTheyAreHeld) {
  accept();
  const auto first = find_event<SliceReady>(hear_slice({SliceKind::kKv, 0, 0, 4})).value();
  const Bytes copy(first.payload.begin(), first.payload.end());
  for (std::uint32_t layer = 1; layer < 4; ++layer) hear_slice({SliceKind::kKv, layer, 0, 4});
  receiver->held({SliceKind::kKv, 2, 0, 4}, now);
  hear_slice({SliceKind::kKv, 0, 4, 4});
  receiver->connection_lost(now);
  EXPECT_TRUE(std::ranges::equal(first.payload, copy));
  EXPECT_EQ(first.part(0).size(), 64u);
  EXPECT_EQ(first.part(1).data(), first.payload.data() + 64);
}

TEST_F(ReceiverAlone, CountsUnheldSlicesAgainstTheNextConnectionsCredit) {
  accept(kDisaggregated, {.window_bytes = 1});
  const std::uint64_t window = receiver->window_bytes();
  hear_slice({SliceKind::kKv, 0, 0, 4});
  hear_slice({SliceKind::kKv, 1, 0, 4});
  receiver->held({SliceKind::kKv, 0, 0, 4}, now);
  receiver->connection_lost(now);
  receiver->attach(now);
  EXPECT_EQ(said<Resume>().value().allowed_bytes, window - 128);
  receiver->held({SliceKind::kKv, 1, 0, 4}, now);
  EXPECT_EQ(said<Credit>().value().allowed_bytes, window);
}

}  // namespace
}  // namespace baton::handoff
