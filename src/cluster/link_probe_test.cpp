#include "cluster/link_probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "base/ed25519.h"
#include "cluster/link_probes.h"
#include "net/test_support.h"
#include "net/transport.h"

namespace baton::cluster {
namespace {

using net::must;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ArrivalMeter, CountsTheLaterThreeQuarters) {
  ArrivalMeter meter;
  TimePoint at{};
  // A quarter lay ready, the rest comes at 1,000 bytes a second.
  for (int frame = 0; frame < 5; ++frame) meter.add(100, at);
  for (int frame = 0; frame < 15; ++frame) meter.add(100, at += milliseconds(100));
  EXPECT_NEAR(meter.bytes_per_second(), 1000, 1e-6);
}

TEST(ArrivalMeter, CountsFramesThatComeInHeaps) {
  ArrivalMeter meter;
  // Six heaps of six frames, half a second apart: 1,200 bytes a second.
  for (int frame = 0; frame < 36; ++frame) meter.add(100, TimePoint{} + frame / 6 * milliseconds(500));
  EXPECT_NEAR(meter.bytes_per_second(), 1200, 1e-6);
}

TEST(ArrivalMeter, SaysNothingOfTooLittle) {
  ArrivalMeter meter;
  EXPECT_EQ(meter.bytes_per_second(), 0);
  for (int frame = 0; frame < 3; ++frame) meter.add(100, TimePoint{} + milliseconds(frame));
  EXPECT_EQ(meter.bytes_per_second(), 0);
  ArrivalMeter at_once;
  for (int frame = 0; frame < 8; ++frame) at_once.add(100, TimePoint{});
  EXPECT_EQ(at_once.bytes_per_second(), 0);
}

// Two nodes on one loop, over real TLS and perhaps an emulated link.
struct ProbedPair {
  explicit ProbedPair(const char* link) {
    const auto emulation = link == nullptr ? std::nullopt : std::optional(must(net::LinkEmulation::parse(link)));
    dialling = must(net::Transport::create(*loop, dialler, emulation));
    answering = must(net::Transport::create(*loop, answerer));
    listener = must(answering->listen(
        {"127.0.0.1", 0},
        {.is_trusted = [](const net::Fingerprint&) { return true; }, .protocols = {net::Protocol::kLinkProbe}},
        [this](auto connection) {
          answers = LinkProbe::start(*loop, std::move(connection), LinkProbe::End::kAnswerer, load,
                                     [this](const auto& measured) { answered = measured; });
        }));
  }
  void run(Duration patience = seconds(15)) {
    const auto dial = dialling->dial({listener->endpoint(), answerer.fingerprint()}, net::Protocol::kLinkProbe,
                                     now() + seconds(5), [this](auto connection) {
                                       asks = LinkProbe::start(*loop, must(std::move(connection)),
                                                               LinkProbe::End::kDialler, LinkProbe::Now::kIdle,
                                                               [this](const auto& measured) { asked = measured; });
                                     });
    const TimePoint end = now() + patience;
    while ((!asked || !answered) && now() < end) {
      net::Timer timer(*loop);
      timer.start(milliseconds(10), [&] { loop->stop(); });
      loop->run();
    }
  }

  std::unique_ptr<net::EventLoop> loop = must(net::EventLoop::create());
  net::Identity dialler = must(net::Identity::from_key(SigningKey::generate()));
  net::Identity answerer = must(net::Identity::from_key(SigningKey::generate()));
  std::unique_ptr<net::Transport> dialling;
  std::unique_ptr<net::Transport> answering;
  std::unique_ptr<net::Listener> listener;
  LinkProbe::Now load = LinkProbe::Now::kIdle;
  std::shared_ptr<LinkProbe> asks;
  std::shared_ptr<LinkProbe> answers;
  std::optional<Result<LinkRates>> asked;
  std::optional<Result<LinkRates>> answered;
};

TEST(LinkProbe, FindsWhatALinkCarriesBothWays) {
  constexpr double kCarried = 12.5e6;
  const auto is_near = [&](double found) { return std::abs(found - kCarried) < 1.5e6; };
  LinkRates rates;
  // Other work on this machine may disturb some bursts.
  for (int attempt = 0; attempt < 4 && !(is_near(rates.to_bytes_per_second) && is_near(rates.from_bytes_per_second));
       ++attempt) {
    ProbedPair world("0.1");
    world.run();
    ASSERT_TRUE(world.asked && world.answered);
    rates = must(*world.asked);
    // Both ends know the same.
    const LinkRates other = must(*world.answered);
    EXPECT_NEAR(other.from_bytes_per_second, rates.to_bytes_per_second, 1);
    EXPECT_NEAR(other.to_bytes_per_second, rates.from_bytes_per_second, 1);
  }
  EXPECT_TRUE(is_near(rates.to_bytes_per_second)) << rates.to_bytes_per_second;
  EXPECT_TRUE(is_near(rates.from_bytes_per_second)) << rates.from_bytes_per_second;
}

TEST(LinkProbe, IsShortOnASlowLink) {
  ProbedPair world("0.001");
  const TimePoint began = now();
  world.run();
  ASSERT_TRUE(world.asked);
  // Roughly: it is a few heaps of frames.
  EXPECT_NEAR(must(*world.asked).to_bytes_per_second, 125e3, 50e3);
  EXPECT_LT(baton::seconds(now() - began), 9);
}

TEST(LinkProbe, LeavesABusyPeerAlone) {
  ProbedPair world(nullptr);
  world.load = LinkProbe::Now::kBusy;
  world.run();
  ASSERT_TRUE(world.asked && world.answered);
  ASSERT_FALSE(*world.asked);
  EXPECT_FALSE(*world.answered);
  EXPECT_NE(world.asked->error().code, ErrorCode::kProtocol) << world.asked->error().to_string();
}

// Sends what it is given in place of a measurement.
class Liar : public net::ConnectionHandler {
 public:
  explicit Liar(std::vector<Bytes> frames) : frames_(std::move(frames)) {}
  void on_frame(ByteSpan) override {}
  std::optional<net::OutFrame> next_frame() override {
    if (next_ == frames_.size()) return std::nullopt;
    return net::OutFrame::owning(frames_[next_++]);
  }
  void on_closed(const Error&) override {}

 private:
  std::vector<Bytes> frames_;
  std::size_t next_ = 0;
};

TEST(LinkProbe, RefusesWhatIsNoMeasurement) {
  const auto bytes = [](std::initializer_list<int> values) {
    Bytes result;
    for (const int value : values) result.push_back(static_cast<std::byte>(value));
    return result;
  };
  const Bytes begin = bytes({1, 0x42, 0x54, 0x4c, 0x50, 1, 0});
  const std::vector<std::vector<Bytes>> lies = {
      {bytes({2, 0, 0})},                           // data before the beginning
      {bytes({1, 1, 2, 3, 4, 1, 0})},               // another protocol
      {bytes({1, 0x42, 0x54, 0x4c, 0x50, 9, 0})},   // another version
      {begin, begin},                               // it begins twice
      {begin, bytes({4, 1, 0, 0, 0, 0, 0, 0, 0})},  // a result before an end
      {begin, bytes({3}), bytes({3})},              // two ends
      {begin, bytes({77})},
  };
  for (const auto& frames : lies) {
    ProbedPair world(nullptr);
    const auto dial = world.dialling->dial(
        {world.listener->endpoint(), world.answerer.fingerprint()}, net::Protocol::kLinkProbe, now() + seconds(5),
        [&](auto connection) { must(std::move(connection))->start(std::make_shared<Liar>(frames)); });
    const TimePoint end = now() + seconds(10);
    while (!world.answered && now() < end) {
      net::Timer timer(*world.loop);
      timer.start(milliseconds(10), [&] { world.loop->stop(); });
      world.loop->run();
    }
    ASSERT_TRUE(world.answered);
    ASSERT_FALSE(*world.answered);
    EXPECT_TRUE(world.answered->error().code == ErrorCode::kProtocol ||
                world.answered->error().code == ErrorCode::kCorrupt)
        << world.answered->error().to_string();
  }
}

TEST(WorkEndpoint, IsWhereAPeerListens) {
  const auto reached = [](std::vector<std::string> told, const std::string& met_at) {
    NodeState state;
    state.addresses = std::move(told);
    const auto endpoint = work_endpoint(state, met_at);
    return endpoint ? endpoint->to_string() : "";
  };
  const std::vector<std::string> told = {"10.0.0.1:8771", "192.0.2.7:8771", "[2001:db8::7]:8771"};
  EXPECT_EQ(reached(told, "[2001:db8::7]:8771"), "[2001:db8::7]:8771");
  // It called from a port of its own.
  EXPECT_EQ(reached(told, "192.0.2.7:45678"), "192.0.2.7:8771");
  EXPECT_EQ(reached(told, "198.51.100.9:45678"), "10.0.0.1:8771");
  EXPECT_EQ(reached(told, ""), "10.0.0.1:8771");
  // It has not said anything yet.
  EXPECT_EQ(reached({}, "192.0.2.7:8771"), "192.0.2.7:8771");
  EXPECT_EQ(reached({"nonsense"}, "192.0.2.7:8771"), "");
}

}  // namespace
}  // namespace baton::cluster
