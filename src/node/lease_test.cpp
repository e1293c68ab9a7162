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

}  // namespace
}  // namespace baton::node
