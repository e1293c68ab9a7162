#include "node/lease.h"

namespace baton::node {

namespace {

Bytes subject_of(const handoff::Open& open) {
  handoff::Open common = common_part(open);
  common.lease.clear();
  return handoff::encode({.transfer = {}, .generation = 0, .body = std::move(common)});
}

}  // namespace

handoff::Open common_part(handoff::Open open) {
  open.sender = 0;
  open.receiver = 0;
  open.allowed_bytes = 0;
  return open;
}

Bytes lease_for(const handoff::Open& open, const SigningKey& coordinator) {
  return trust::sign_lease(coordinator, subject_of(open));
}

Result<void> check_lease(const handoff::Open& open) {
  if (open.lease.empty() || open.lease_lifetime_ms == 0) return fail(ErrorCode::kRefused, "the request has no lease");
  const net::Fingerprint signer = TRY(trust::verify_lease(open.lease, subject_of(open)));
  if (signer.to_string() != open.plan.nodes.front().fingerprint) {
    return fail(ErrorCode::kRefused, "the request's lease is not its coordinator's");
  }
  return {};
}

}  // namespace baton::node
