// Hostile bytes as a statement and as a list; then statements whose signatures are right, made from the input, in any
// order and by any key: whatever comes, two lists that hear the same say the same, and nobody gets in without an admin.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "trust/member_list.h"

namespace {

using namespace baton;
using namespace baton::trust;

constexpr std::size_t kKeys = 5;

const std::vector<SigningKey>& keys() {
  static const std::vector<SigningKey> all = [] {
    std::vector<SigningKey> made;
    for (std::size_t i = 0; i < kKeys; ++i) {
      SigningKey::Seed seed{};
      seed.fill(static_cast<std::byte>(i + 1));
      made.push_back(SigningKey::from_seed(seed));
    }
    return made;
  }();
  return all;
}

void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan bytes = std::as_bytes(std::span(data, size));
  if (const auto statement = Statement::decode(bytes)) check(Statement::decode(statement->bytes()).has_value());
  if (const auto list = MemberList::decode(bytes))
    check(MemberList::decode(list->encode())->digest() == list->digest());

  static const Statement genesis =
      Statement::sign(keys()[0], {}, 1, Genesis{.cluster_name = "c", .nonce = {}, .node_name = "n"}).value();
  std::vector<Statement> statements;
  for (std::size_t i = 0; i + 3 < size && statements.size() < 12; i += 4) {
    const SigningKey& issuer = keys()[data[i] % kKeys];
    const PublicKey& subject = keys()[data[i + 1] % kKeys].public_key();
    StatementBody body = Enrolment{subject, data[i + 2] % 2 == 0 ? Role::kMember : Role::kAdmin, "a"};
    if (data[i + 2] % 3 == 0) {
      Revocation revocation{subject, {}};
      if (!statements.empty()) revocation.kept = {statements[data[i + 2] % statements.size()].digest()};
      body = revocation;
    }
    statements.push_back(Statement::sign(issuer, genesis.cluster(), 2 + data[i + 3] % 8, std::move(body)).value());
  }
  MemberList forwards = MemberList::create(genesis.cluster(), genesis).value();
  MemberList backwards = forwards;
  check(forwards.merge(statements).has_value());
  for (std::size_t round = 0; round <= statements.size(); ++round) {
    for (auto statement = statements.rbegin(); statement != statements.rend(); ++statement) {
      check(backwards.merge({*statement}).has_value());
    }
  }
  check(forwards.digest() == backwards.digest() && forwards.members() == backwards.members());
  check(MemberList::decode(forwards.encode())->members() == forwards.members());
  for (const auto& [id, member] : forwards.members()) check(!forwards.is_revoked(id));
  return 0;
}
