#include "node/lease.h"

#include <algorithm>

namespace baton::node {

namespace {

Bytes subject_of(const handoff::Open& open) {
  handoff::Open common = common_part(open);
  common.lease.clear();
  return handoff::encode({.transfer = {}, .generation = 0, .body = std::move(common)});
}

const std::string& coordinator_of(const handoff::Open& open) { return open.plan.nodes.front().fingerprint; }

TimePoint end_from(const handoff::Open& open, TimePoint begin) {
  return begin + std::chrono::milliseconds(open.lease_lifetime_ms);
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
  if (signer.to_string() != coordinator_of(open)) {
    return fail(ErrorCode::kRefused, "the request's lease is not its coordinator's");
  }
  return {};
}

Result<TimePoint> LeaseBook::end_of(const handoff::Open& open, TimePoint now) const {
  const auto of_coordinator = ends_.find(coordinator_of(open));
  if (of_coordinator == ends_.end()) return end_from(open, now);
  const Ends& ends = of_coordinator->second;
  if (const auto known = ends.find(open.request); known != ends.end()) {
    if (known->second < now) return fail(ErrorCode::kRefused, "the request's lease has run out");
    return known->second;
  }
  const auto has_ended = [&](const auto& entry) { return entry.second < now; };
  if (ends.size() >= kMaxOfOneCoordinator && std::ranges::none_of(ends, has_ended)) {
    return fail(ErrorCode::kNoCapacity, "the coordinator has too many leases that have not run out");
  }
  return end_from(open, now);
}

void LeaseBook::note(const handoff::Open& open, TimePoint now) {
  Ends& ends = ends_[coordinator_of(open)];
  if (ends.size() >= kMaxOfOneCoordinator && !ends.contains(open.request)) {
    std::erase_if(ends, [&](const auto& entry) { return entry.second < now; });
  }
  ends.try_emplace(open.request, end_from(open, now));
}

}  // namespace baton::node
