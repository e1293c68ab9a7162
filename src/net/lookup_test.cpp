#include "net/lookup.h"

#include <gtest/gtest.h>

#include <optional>

namespace baton::net {
namespace {

Result<std::vector<Address>> looked_up(const std::string& host) {
  const auto loop = EventLoop::create().value();
  std::optional<Result<std::vector<Address>>> answer;
  const Lookup lookup =
      look_up(handle_of(*loop), {.host = host, .port = 8771}, [&](Result<std::vector<Address>> addresses) {
        answer = std::move(addresses);
        loop->stop();
      });
  EXPECT_FALSE(answer) << "called back from inside the call";
  Timer deadline(*loop);
  deadline.start(std::chrono::seconds(30), [&] { loop->stop(); });
  loop->run();
  if (!answer) return fail(ErrorCode::kTimeout, "no answer");
  return *answer;
}

TEST(Lookup, FindsAName) {
  const auto addresses = looked_up("localhost");
  ASSERT_TRUE(addresses) << addresses.error().to_string();
  ASSERT_FALSE(addresses->empty());
  for (const Address& address : *addresses) {
    EXPECT_TRUE(address.address().is_loopback());
    EXPECT_EQ(address.port(), 8771);
  }
}

TEST(Lookup, SaysThatThereIsNoSuchHost) {
  const auto addresses = looked_up(std::string(300, 'a'));  // longer than any name may be: no server is asked
  ASSERT_FALSE(addresses);
  EXPECT_EQ(addresses.error().code, ErrorCode::kNotFound);
}

TEST(Lookup, AnswersEveryoneWhoAsks) {
  const auto loop = EventLoop::create().value();
  int answers = 0;
  constexpr int kAsked = 5;
  std::vector<Lookup> asked;
  for (int i = 0; i < kAsked; ++i) {
    asked.push_back(look_up(handle_of(*loop), {.host = "localhost", .port = static_cast<std::uint16_t>(i + 1)},
                            [&, i](const Result<std::vector<Address>>& addresses) {
                              ASSERT_TRUE(addresses);
                              EXPECT_EQ(addresses->front().port(), i + 1);
                              if (++answers == kAsked) loop->stop();
                            }));
  }
  Timer deadline(*loop);
  deadline.start(std::chrono::seconds(30), [&] { loop->stop(); });
  loop->run();
  EXPECT_EQ(answers, kAsked);
}

TEST(Lookup, WhoeverHasGoneIsNotCalled) {
  const auto loop = EventLoop::create().value();
  bool called = false;
  auto captured = std::make_shared<int>();
  const std::weak_ptr<int> held = captured;
  Lookup gone = look_up(handle_of(*loop), {.host = "localhost", .port = 1},
                        [&, captured = std::move(captured)](const auto&) { called = true; });
  EXPECT_FALSE(held.expired());
  gone.reset();
  EXPECT_TRUE(held.expired()) << "nothing of it waits for the resolver";
  EXPECT_TRUE(looked_up("localhost"));
  loop->post([&] { loop->stop(); });
  loop->run();
  EXPECT_FALSE(called);
}

TEST(Lookup, WhoeverAsksAgainAndAgainWaitsOnce) {
  const auto loop = EventLoop::create().value();
  // The resolver may answer in between, but never are there more than those that still want it.
  for (int i = 0; i < 100; ++i) {
    const Lookup lookup = look_up(handle_of(*loop), {.host = "localhost", .port = 1}, [](const auto&) {});
    EXPECT_LE(waiting_for("localhost"), 1U);
  }
}

TEST(Lookup, NobodyIsCalledAfterTheLoop) {
  bool called = false;
  Lookup lookup;
  {
    const auto loop = EventLoop::create().value();
    lookup = look_up(handle_of(*loop), {.host = "localhost", .port = 1}, [&](const auto&) { called = true; });
  }
  // Another answer of the same name comes after that one.
  EXPECT_TRUE(looked_up("localhost"));
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace baton::net
