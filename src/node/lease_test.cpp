#include "node/lease.h"

#include <gtest/gtest.h>

#include "handoff/transfer_fixture.h"
#include "trust/statement.h"

namespace baton::node {
namespace {

struct Scene {
  SigningKey coordinator = SigningKey::generate();
  handoff::Open open;
  Scene() {
    open = handoff::fixture::open_of(handoff::fixture::kDisaggregated, 10, 4);
    open.plan.nodes.front().fingerprint = trust::node_id(coordinator.public_key()).to_string();
    open.lease = lease_for(open, coordinator);
  }
};

TEST(RequestLease, HoldsForEveryTransferOfItsRequest) {
  Scene scene;
  EXPECT_TRUE(check_lease(scene.open));
  scene.open.sender = 7;
  scene.open.receiver = 8;
  scene.open.allowed_bytes += 1;
  EXPECT_TRUE(check_lease(scene.open));
}

TEST(RequestLease, HoldsForNothingElse) {
  const Scene scene;
  const auto refused = [&](const auto& change) {
    handoff::Open open = scene.open;
    change(open);
    const auto checked = check_lease(open);
    return !checked && checked.error().code == ErrorCode::kRefused;
  };
  EXPECT_TRUE(refused([](auto& open) { open.agent = "another"; }));
  EXPECT_TRUE(refused([](auto& open) { open.model.bytes[0] ^= std::byte{1}; }));
  EXPECT_TRUE(refused([](auto& open) { open.request.bytes[0] ^= std::byte{1}; }));
  EXPECT_TRUE(refused([](auto& open) { open.plan.nodes.back().fingerprint[0] ^= 1; }));
  EXPECT_TRUE(refused([](auto& open) { open.max_new_tokens += 1; }));
  EXPECT_TRUE(refused([](auto& open) { open.prompt_tokens += 1; }));
  EXPECT_TRUE(refused([](auto& open) { open.lease_lifetime_ms += 1; }));
  EXPECT_TRUE(refused([](auto& open) { open.lease_lifetime_ms = 0; }));
  EXPECT_TRUE(refused([](auto& open) { open.lease.clear(); }));
}

TEST(RequestLease, IsTheCoordinatorsOwn) {
  Scene scene;
  scene.open.lease = lease_for(scene.open, SigningKey::generate());
  EXPECT_EQ(check_lease(scene.open).error().code, ErrorCode::kRefused);
}

handoff::Open open_of_request(const Scene& scene, std::uint32_t number) {
  handoff::Open open = scene.open;
  for (std::size_t i = 0; i < sizeof number; ++i) open.request.bytes[i] = static_cast<std::byte>(number >> (8 * i));
  return open;
}

TEST(LeaseBook, CountsFromTheFirstTime) {
  const Scene scene;
  const auto lifetime = std::chrono::milliseconds(scene.open.lease_lifetime_ms);
  const TimePoint start = now();
  LeaseBook book;
  EXPECT_EQ(book.end_of(scene.open, start).value(), start + lifetime);
  EXPECT_EQ(book.end_of(scene.open, start + lifetime).value(), start + 2 * lifetime) << "nothing was begun yet";
  book.note(scene.open, start);
  book.note(scene.open, start + lifetime / 2);
  EXPECT_EQ(book.end_of(scene.open, start + lifetime / 2).value(), start + lifetime);
  const auto late = book.end_of(scene.open, start + lifetime + std::chrono::milliseconds(1));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kRefused);
}

TEST(LeaseBook, OneCoordinatorTakesNobodyElsesRoom) {
  const Scene busy;
  const Scene other;
  const TimePoint start = now();
  LeaseBook book;
  for (std::uint32_t i = 0; i < LeaseBook::kMaxOfOneCoordinator; ++i) book.note(open_of_request(busy, i), start);
  const handoff::Open next = open_of_request(busy, LeaseBook::kMaxOfOneCoordinator);
  EXPECT_EQ(book.end_of(next, start).error().code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(book.end_of(open_of_request(busy, 0), start)) << "what has begun goes on";
  EXPECT_TRUE(book.end_of(other.open, start));
  // What has ended makes room; what has not is not forgotten for it.
  const TimePoint later = start + std::chrono::milliseconds(busy.open.lease_lifetime_ms + 1);
  ASSERT_TRUE(book.end_of(next, later));
  book.note(next, later);
  EXPECT_EQ(book.end_of(next, later + std::chrono::milliseconds(1)).value(),
            later + std::chrono::milliseconds(busy.open.lease_lifetime_ms));
}

TEST(LeaseBook, ForgetsWhoIsCutOff) {
  const Scene scene;
  LeaseBook book;
  const TimePoint start = now();
  book.note(scene.open, start);
  book.forget(scene.open.plan.nodes.front().fingerprint);
  const TimePoint later = start + std::chrono::hours(1);
  EXPECT_TRUE(book.end_of(scene.open, later));
}

}  // namespace
}  // namespace baton::node
