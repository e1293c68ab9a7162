#include "trust/lease.h"

#include <gtest/gtest.h>

#include "trust/statement.h"

namespace baton::trust {
namespace {

TEST(Lease, NamesItsCoordinator) {
  const SigningKey key = SigningKey::generate();
  const Bytes lease = sign_lease(key, as_byte_span("work"));
  EXPECT_EQ(verify_lease(lease, as_byte_span("work")).value(), node_id(key.public_key()));
}

TEST(Lease, IsWorthNothingForOtherWork) {
  const Bytes lease = sign_lease(SigningKey::generate(), as_byte_span("work"));
  const auto verified = verify_lease(lease, as_byte_span("Work"));
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, ErrorCode::kRefused);
}

TEST(Lease, ThatWasChangedOrCutIsRefused) {
  const Bytes lease = sign_lease(SigningKey::generate(), as_byte_span("work"));
  for (std::size_t i = 0; i < lease.size(); ++i) {
    Bytes changed = lease;
    changed[i] ^= std::byte{1};
    EXPECT_FALSE(verify_lease(changed, as_byte_span("work"))) << i;
    const auto cut = verify_lease(ByteSpan(lease).first(i), as_byte_span("work"));
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, ErrorCode::kRefused);
  }
}

}  // namespace
}  // namespace baton::trust
