// Two Exchanges on one loop, each with its transport, over real TLS connections on the loopback interface. What flows
// is made up; the clock is the test's.
#include "node/exchange.h"

#include <gtest/gtest.h>

#include <deque>
#include <format>

#include "handoff/transfer_fixture.h"
#include "net/test_support.h"

namespace baton::node {
namespace {

namespace fixture = handoff::fixture;

constexpr std::uint32_t kExchangeTokens = 10;
constexpr std::uint32_t kExchangeChunk = 4;

// Makes all that a transfer asks for, or takes all that it brings.
class Owner : public TransferOwner {
 public:
  Owner(net::TestLoop& loop, const std::function<TimePoint()>& clock) : loop_(loop), clock_(clock) {}

  void serve(const std::shared_ptr<OutgoingTransfer>& transfer) { transfer->machine.accept({}); }
  void on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) override {
    if (std::holds_alternative<handoff::PromptArrived>(event)) offer_all(transfer);
    if (std::holds_alternative<handoff::Acknowledged>(event)) ++acknowledged;
    if (const auto* over = std::get_if<handoff::SenderEnded>(&event)) sender_ended = over->reason;
    loop_.poke();
  }
  void on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) override {
    if (const auto* slice = std::get_if<handoff::SliceReady>(&event)) {
      const Bytes expected = fixture::payload_of(slice->key, transfer.machine.expected(), fixture::widths());
      EXPECT_TRUE(std::ranges::equal(slice->payload, expected));
      keys.push_back(slice->key);
      transfer.machine.held(slice->key, clock_());
      if (transfer.machine.prefill_complete()) {
        EXPECT_TRUE(transfer.machine.commit());
      }
    }
    if (const auto* over = std::get_if<handoff::ReceiverEnded>(&event)) receiver_ended = *over;
    loop_.poke();
  }
  void on_unreachable(IncomingTransfer&, const Error& error) override {
    unreachable = error;
    loop_.poke();
  }
  std::shared_ptr<const void> keep_alive(ByteSpan) override { return nullptr; }

  std::vector<handoff::SliceKey> keys;
  std::size_t acknowledged = 0;
  std::optional<handoff::SenderEnded::Reason> sender_ended;
  std::optional<handoff::ReceiverEnded> receiver_ended;
  std::optional<Error> unreachable;

 private:
  void offer_all(OutgoingTransfer& transfer) {
    for (const handoff::SliceKey& key : fixture::prefill_keys(transfer.machine.flow())) {
      payloads_.push_back(fixture::payload_of(key, transfer.machine.flow(), fixture::widths()));
      EXPECT_TRUE(
          transfer.machine.offer(fixture::offered(key, transfer.machine.flow(), fixture::widths(), payloads_.back())));
    }
    EXPECT_TRUE(transfer.machine.finish(0));
    transfer.wake();
  }

  net::TestLoop& loop_;
  std::function<TimePoint()> clock_;
  std::deque<Bytes> payloads_;
};

class ExchangeTest : public testing::Test {
 protected:
  struct Side {
    explicit Side(net::Identity key) : identity(std::move(key)) {}
    net::Identity identity;
    std::unique_ptr<net::Transport> transport;
    std::unique_ptr<Exchange> exchange;
    std::unique_ptr<net::Listener> listener;
    std::shared_ptr<Owner> owner;
    std::optional<Error> refuses;  // whatever is opened here
  };

  void SetUp() override {
    for (Side* side : {&here_, &there_}) {
      side->transport = net::must(net::Transport::create(*loop_, side->identity));
      side->owner = std::make_shared<Owner>(loop_, clock_);
      side->exchange = std::make_unique<Exchange>(
          *loop_, *side->transport, [](const handoff::Open&) { return fixture::widths(); },
          [side](const handoff::Open&, const net::Fingerprint&) -> Result<Exchange::OpenDecision> {
            if (side->refuses) return std::unexpected(*side->refuses);
            return Exchange::OpenDecision{side->owner,
                                          [owner = side->owner](const auto& transfer) { owner->serve(transfer); }};
          },
          Surroundings{.now = clock_});
    }
    net::ListenOptions options;
    options.is_trusted = [](const net::Fingerprint&) { return true; };
    there_.listener =
        net::must(there_.transport->listen(net::Endpoint::parse_listen("127.0.0.1:0").value(), std::move(options),
                                           [this](auto connection) { there_.exchange->adopt(std::move(connection)); }));
  }
  void TearDown() override {
    there_.listener.reset();
    here_.exchange.reset();
    there_.exchange.reset();
  }

  // Opens a transfer of all KV from there to here.
  std::shared_ptr<IncomingTransfer> open(std::uint8_t seed = 7) {
    handoff::Open open = fixture::open_of(fixture::kDisaggregated, kExchangeTokens, kExchangeChunk);
    open.plan.nodes[0].fingerprint = here_.identity.fingerprint().to_string();
    open.plan.nodes[1].fingerprint = there_.identity.fingerprint().to_string();
    open.plan.nodes[1].address = address_;
    if (address_.empty()) open.plan.nodes[1].address = there_.listener->endpoint().to_string();
    const plan::NodeRef peer = open.plan.nodes[1];
    auto machine = handoff::Receiver::create(fixture::transfer_id(seed), open, fixture::prompt_of(kExchangeTokens),
                                             fixture::widths(), {}, clock_());
    return here_.exchange->open(here_.owner, peer, net::must(std::move(machine)));
  }

  bool all_given_back() const { return here_.exchange->transfers() == 0 && there_.exchange->transfers() == 0; }
  // Polls what nobody pokes for.
  bool run_until(const std::function<bool()>& condition) {
    const TimePoint deadline = now() + net::kTestPatience;
    while (!condition() && now() < deadline) loop_.run_until([] { return false; }, std::chrono::milliseconds(5));
    return condition();
  }

  net::TestLoop loop_;
  Duration skipped_{};
  // Time passes as it does, and as the test says.
  std::function<TimePoint()> clock_ = [this] { return now() + skipped_; };
  Side here_{net::new_identity()};
  Side there_{net::new_identity()};
  std::string address_;
};

TEST_F(ExchangeTest, CarriesATransferFromItsOpenToItsRelease) {
  open();
  ASSERT_TRUE(run_until([&] { return here_.owner->receiver_ended.has_value() && all_given_back(); }));
  EXPECT_EQ(here_.owner->receiver_ended->reason, handoff::ReceiverEnded::Reason::kReleased);
  EXPECT_EQ(there_.owner->sender_ended, handoff::SenderEnded::Reason::kCommitted);
  const std::size_t chunks = (kExchangeTokens + kExchangeChunk - 1) / kExchangeChunk;
  EXPECT_EQ(here_.owner->keys.size(), chunks * fixture::kLayers + 1);  // and the logits
}

TEST_F(ExchangeTest, CarriesTwoTransfersToOnePeerOnOneConnection) {
  open(7);
  open(8);
  ASSERT_TRUE(run_until([&] { return here_.owner->keys.size() == 26 && all_given_back(); }));
  // A transfer opened before the first connection is up dials too; only one of them is kept or needed.
  EXPECT_LE(here_.exchange->connections(), 2u);
  const std::size_t before = here_.exchange->connections();
  open(9);
  ASSERT_TRUE(run_until([&] { return here_.owner->keys.size() == 39 && all_given_back(); }));
  EXPECT_EQ(here_.exchange->connections(), before);
}

TEST_F(ExchangeTest, TellsTheReceiverWhyItIsRefused) {
  there_.refuses = Error{ErrorCode::kNoCapacity, "the house is full", {}};
  open();
  ASSERT_TRUE(run_until([&] { return here_.owner->receiver_ended.has_value() && all_given_back(); }));
  EXPECT_EQ(here_.owner->receiver_ended->reason, handoff::ReceiverEnded::Reason::kRefused);
  EXPECT_EQ(here_.owner->receiver_ended->error.code, ErrorCode::kNoCapacity);
  EXPECT_EQ(here_.owner->receiver_ended->error.message, "the house is full");
}

TEST_F(ExchangeTest, SaysThatNobodyIsThere) {
  address_ = there_.listener->endpoint().to_string();
  there_.listener.reset();
  open();
  ASSERT_TRUE(run_until([&] { return here_.owner->unreachable.has_value(); }));
  EXPECT_EQ(here_.owner->unreachable->code, ErrorCode::kUnavailable);
}

TEST_F(ExchangeTest, SaysThatAnAddressIsNone) {
  address_ = "nowhere";
  open();
  ASSERT_TRUE(run_until([&] { return here_.owner->unreachable.has_value(); }));
  EXPECT_EQ(here_.owner->unreachable->code, ErrorCode::kInvalidArgument);
}

TEST_F(ExchangeTest, ClosesAConnectionThatIsIdleAndOpensAnotherWhenItIsNeeded) {
  open();
  ASSERT_TRUE(run_until([&] { return here_.owner->receiver_ended.has_value() && all_given_back(); }));
  ASSERT_EQ(here_.exchange->connections(), 1u);
  skipped_ = Exchange::kIdleTimeout;
  ASSERT_TRUE(run_until([&] { return here_.exchange->connections() == 0 && there_.exchange->connections() == 0; }));
  open(8);
  ASSERT_TRUE(run_until([&] { return here_.owner->keys.size() == 26 && all_given_back(); }));
  EXPECT_EQ(here_.exchange->connections(), 1u);
}

TEST_F(ExchangeTest, TakesNoConnectionAfterItsEnd) {
  bool closed = false;
  there_.exchange->close(net::kTestPatience, [&] { closed = true; });
  open();
  ASSERT_TRUE(run_until([&] { return closed && (here_.owner->unreachable || here_.owner->receiver_ended); }));
  EXPECT_EQ(there_.exchange->connections(), 0u);
  EXPECT_EQ(there_.exchange->transfers(), 0u);
}

TEST_F(ExchangeTest, EndsItsConnectionsInGoodOrder) {
  open();
  ASSERT_TRUE(run_until([&] { return all_given_back() && here_.exchange->connections() == 1; }));
  bool closed = false;
  here_.exchange->close(net::kTestPatience, [&] { closed = true; });
  const TimePoint began = now();
  ASSERT_TRUE(run_until([&] { return closed && there_.exchange->connections() == 0; }));
  EXPECT_LT(now() - began, net::kTestPatience / 2) << "it waited for more than its peer's goodbye";
}

}  // namespace
}  // namespace baton::node
