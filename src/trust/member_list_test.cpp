#include "trust/member_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <format>
#include <numeric>

#include "trust/wire.h"

namespace baton::trust {
namespace {

net::Fingerprint id_of(const SigningKey& key) { return node_id(key.public_key()); }

// A cluster founded by `a`; the tests let others join.
struct Scene {
  SigningKey a = SigningKey::generate();
  SigningKey b = SigningKey::generate();
  SigningKey c = SigningKey::generate();
  SigningKey d = SigningKey::generate();
  MemberList list = MemberList::found(a, "home", "a").value();
  Statement genesis = list.statements().front();

  Statement sign(const SigningKey& issuer, std::uint64_t epoch, StatementBody body) const {
    return Statement::sign(issuer, list.cluster(), epoch, std::move(body)).value();
  }
  Enrolment enrolment(const SigningKey& key, std::string name, Role role = Role::kMember) const {
    return {.key = key.public_key(), .role = role, .name = std::move(name)};
  }
  MemberList empty() const { return MemberList::create(list.cluster(), genesis).value(); }
  // Both ways of hearing: one statement at a time, each again and again until nothing is new, and all at once.
  MemberList heard(const std::vector<Statement>& statements) const {
    MemberList one = empty();
    for (bool again = true; again;) {
      again = false;
      for (const Statement& statement : statements) again |= one.merge({statement}).value();
    }
    MemberList all = empty();
    EXPECT_TRUE(all.merge(statements));
    EXPECT_EQ(one.digest(), all.digest());
    EXPECT_EQ(one.members(), all.members());
    return one;
  }
};

// What follows from the statements, which must be the same in every order of hearing them.
MemberList in_every_order(const Scene& scene, const std::vector<Statement>& statements) {
  std::vector<std::size_t> order(statements.size());
  std::iota(order.begin(), order.end(), 0);
  const MemberList expected = scene.heard(statements);
  do {
    std::vector<Statement> shuffled;
    for (const std::size_t index : order) shuffled.push_back(statements[index]);
    const MemberList heard = scene.heard(shuffled);
    EXPECT_EQ(heard.digest(), expected.digest());
    EXPECT_EQ(heard.members(), expected.members());
  } while (std::ranges::next_permutation(order).found && !testing::Test::HasFailure());
  return expected;
}

TEST(MemberList, BeginsWithItsFounder) {
  const Scene scene;
  ASSERT_EQ(scene.list.members().size(), 1u);
  EXPECT_TRUE(scene.list.is_admin(id_of(scene.a)));
  EXPECT_EQ(scene.list.find(id_of(scene.a))->name, "a");
  EXPECT_EQ(scene.list.cluster_name(), "home");
  EXPECT_EQ(scene.list.epoch(), 1u);
}

TEST(MemberList, OnlyAdminsEnrolAndRevoke) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  EXPECT_EQ(scene.list.enrol(scene.b, scene.c.public_key(), "c").error().code, ErrorCode::kRefused);
  EXPECT_EQ(scene.list.revoke(scene.b, id_of(scene.a)).error().code, ErrorCode::kRefused);
  EXPECT_EQ(scene.list.promote(scene.b, id_of(scene.b)).error().code, ErrorCode::kRefused);
  // Nor by signing statements by hand.
  EXPECT_FALSE(scene.list.merge({scene.sign(scene.b, 9, scene.enrolment(scene.c, "c"))}).value());
  EXPECT_FALSE(scene.list.merge({scene.sign(scene.b, 9, Revocation{scene.a.public_key(), {}})}).value());
  EXPECT_FALSE(scene.list.contains(id_of(scene.c)));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  EXPECT_TRUE(scene.list.enrol(scene.b, scene.c.public_key(), "c"));
  EXPECT_TRUE(scene.list.contains(id_of(scene.c)));
}

TEST(MemberList, GivesEachNodeANameOfItsOwn) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "a"));
  EXPECT_EQ(scene.list.find(id_of(scene.b))->name, "a-2");
  EXPECT_EQ(scene.list.resolve("a-2").value().id, id_of(scene.b));
  EXPECT_EQ(scene.list.resolve(id_of(scene.b).to_string().substr(0, 8)).value().id, id_of(scene.b));
  EXPECT_EQ(scene.list.resolve("b").error().code, ErrorCode::kNotFound);
}

TEST(MemberList, KeepsTheLastAdmin) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  EXPECT_EQ(scene.list.revoke(scene.a, id_of(scene.a)).error().code, ErrorCode::kRefused);
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  EXPECT_TRUE(scene.list.revoke(scene.a, id_of(scene.a)));
  EXPECT_TRUE(scene.list.contains(id_of(scene.b))) << "what the founder had signed is kept when it leaves";
  EXPECT_TRUE(scene.list.is_admin(id_of(scene.b)));
  EXPECT_FALSE(scene.list.contains(id_of(scene.a)));
}

TEST(MemberList, IsTheSameInEveryOrderOfHearing) {
  const Scene scene;
  // The founder lets b and c in, b becomes an admin and lets d in; c is revoked, renamed and promoted meanwhile.
  const auto end = in_every_order(scene, {scene.sign(scene.a, 2, scene.enrolment(scene.b, "b", Role::kAdmin)),
                                          scene.sign(scene.a, 3, scene.enrolment(scene.c, "c")),
                                          scene.sign(scene.b, 4, scene.enrolment(scene.d, "d")),
                                          scene.sign(scene.b, 5, Revocation{scene.c.public_key(), {}}),
                                          scene.sign(scene.a, 6, scene.enrolment(scene.c, "x", Role::kAdmin))});
  EXPECT_TRUE(end.is_admin(id_of(scene.b)));
  EXPECT_TRUE(end.contains(id_of(scene.d)));
  EXPECT_FALSE(end.contains(id_of(scene.c))) << "a revocation wins, whatever the epochs are";
}

TEST(MemberList, AHigherEpochGivesTheName) {
  const Scene scene;
  const auto end = in_every_order(scene, {scene.sign(scene.a, 2, scene.enrolment(scene.b, "old")),
                                          scene.sign(scene.a, 7, scene.enrolment(scene.b, "new")),
                                          scene.sign(scene.a, 5, scene.enrolment(scene.b, "late", Role::kAdmin))});
  EXPECT_EQ(end.find(id_of(scene.b))->name, "new");
  EXPECT_TRUE(end.is_admin(id_of(scene.b)));
}

TEST(MemberList, OutlivesTwoAdminsWhoRevokeEachOther) {
  const Scene scene;
  const auto end = in_every_order(scene, {scene.sign(scene.a, 2, scene.enrolment(scene.b, "b", Role::kAdmin)),
                                          scene.sign(scene.a, 3, scene.enrolment(scene.c, "c", Role::kAdmin)),
                                          scene.sign(scene.b, 4, Revocation{scene.c.public_key(), {}}),
                                          scene.sign(scene.c, 4, Revocation{scene.b.public_key(), {}})});
  EXPECT_FALSE(end.contains(id_of(scene.b)));
  EXPECT_FALSE(end.contains(id_of(scene.c)));
  EXPECT_TRUE(end.contains(id_of(scene.a)));
}

TEST(MemberList, AStolenKeyLetsNobodyInOnceItIsRevoked) {
  Scene scene;
  const Statement b = scene.sign(scene.a, 2, scene.enrolment(scene.b, "b", Role::kAdmin));
  const Statement c = scene.sign(scene.b, 3, scene.enrolment(scene.c, "c"));
  // The founder revokes b and keeps what it knows of b's. The thief dates an enrolment back, of an admin even, who
  // then vouches for itself.
  const Statement revocation = scene.sign(scene.a, 4, Revocation{scene.b.public_key(), {c.digest()}});
  const Statement evil = scene.sign(scene.b, 3, scene.enrolment(scene.d, "d", Role::kAdmin));
  const Statement vouched = scene.sign(scene.d, 5, Revocation{scene.b.public_key(), {evil.digest()}});
  std::vector<Sha256> all = {c.digest(), evil.digest()};
  std::ranges::sort(all);
  const Statement own = scene.sign(scene.b, 6, Revocation{scene.b.public_key(), all});
  const auto end = in_every_order(scene, {b, c, revocation, evil, own});
  EXPECT_TRUE(end.contains(id_of(scene.c))) << "what the revocation keeps stays good";
  EXPECT_FALSE(end.contains(id_of(scene.d)));
  const auto worse = in_every_order(scene, {b, c, revocation, evil, vouched});
  EXPECT_FALSE(worse.contains(id_of(scene.d)));
  EXPECT_FALSE(worse.is_admin(id_of(scene.b)));
}

TEST(MemberList, TheFounderCanBeRevokedByAnotherAdmin) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.c.public_key(), "c"));
  ASSERT_TRUE(scene.list.revoke(scene.b, id_of(scene.a)));
  EXPECT_FALSE(scene.list.contains(id_of(scene.a)));
  EXPECT_TRUE(scene.list.is_admin(id_of(scene.b)));
  EXPECT_TRUE(scene.list.contains(id_of(scene.c)));
  EXPECT_TRUE(scene.list.enrol(scene.b, scene.d.public_key(), "d"));
  EXPECT_FALSE(scene.list.enrol(scene.b, scene.a.public_key(), "a")) << "a revoked key stays out";
}

TEST(MemberList, AMemberMayLeaveAndCannotFillTheListByIt) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  std::vector<Statement> leaves;
  for (std::uint64_t epoch = 3; epoch < 6; ++epoch) {
    leaves.push_back(scene.sign(scene.b, epoch, Revocation{scene.b.public_key(), {}}));
  }
  std::vector<Statement> all = scene.list.statements();
  all.insert(all.end(), leaves.begin(), leaves.end());
  const auto end = in_every_order(scene, all);
  EXPECT_FALSE(end.contains(id_of(scene.b)));
  EXPECT_EQ(end.statements().size(), 3u);
  const SigningKey stranger = SigningKey::generate();
  EXPECT_FALSE(scene.list.merge({scene.sign(stranger, 2, Revocation{stranger.public_key(), {}})}).value());
}

// Many enrolments by one admin, signed by hand at one epoch. The keys are of no use to anybody.
std::vector<Statement> many_enrolments(const Scene& scene, const SigningKey& issuer, std::size_t count,
                                       std::uint64_t epoch) {
  std::vector<Statement> statements;
  for (std::size_t i = 0; i < count; ++i) {
    PublicKey key;
    key.bytes[0] = static_cast<std::byte>(i % 256);
    key.bytes[1] = static_cast<std::byte>(i / 256);
    key.bytes[2] = static_cast<std::byte>(epoch);
    statements.push_back(
        scene.sign(issuer, epoch, Enrolment{.key = key, .role = Role::kMember, .name = std::format("n{}", i)}));
  }
  return statements;
}

TEST(MemberList, GoesOnAfterAMemberHasUsedUpTheEpochs) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.merge({scene.sign(scene.b, kMaxEpoch, Revocation{scene.b.public_key(), {}})}).value());
  EXPECT_EQ(scene.list.enrol(scene.a, scene.c.public_key(), "c").value().epoch(), 3u)
      << "whoever leaves gives no order";
  // An admin gives one, and the last epoch serves again and again.
  ASSERT_TRUE(scene.list.merge({scene.sign(scene.a, kMaxEpoch, scene.enrolment(scene.c, "c"))}).value());
  EXPECT_TRUE(scene.list.enrol(scene.a, scene.d.public_key(), "d"));
  EXPECT_TRUE(scene.list.promote(scene.a, id_of(scene.c)));
  EXPECT_TRUE(scene.list.revoke(scene.c, id_of(scene.d)));
  EXPECT_EQ(MemberList::decode(scene.list.encode()).value().members(), scene.list.members());
  EXPECT_EQ(scene.heard(scene.list.statements()).members(), scene.list.members());
}

TEST(MemberList, AnAdminIsRevokedWhateverItHasEnrolled) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  ASSERT_TRUE(scene.list.enrol(scene.b, scene.c.public_key(), "c"));
  ASSERT_TRUE(scene.list.merge(many_enrolments(scene, scene.b, kMaxKeptStatements + 10, 100)).value());
  const auto revocation = scene.list.revoke(scene.a, id_of(scene.b));
  ASSERT_TRUE(revocation) << revocation.error().to_string();
  EXPECT_FALSE(scene.list.contains(id_of(scene.b)));
  EXPECT_TRUE(scene.list.contains(id_of(scene.c))) << "the lowest epochs are kept";
  EXPECT_EQ(scene.list.members().size(), 1 + kMaxKeptStatements);
}

TEST(MemberList, AFullListTakesRevocationsAndLeavesEnrolmentsOut) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  ASSERT_TRUE(scene.list.merge(many_enrolments(scene, scene.b, kMaxEnrolments, 4)).value());
  EXPECT_EQ(scene.list.statements().size(), kMaxEnrolments);
  // What does not fit any more ends nothing: neither what comes with it, nor the connection that it comes by.
  const Statement late = scene.sign(scene.a, 9, scene.enrolment(scene.c, "c"));
  const Statement revocation = scene.sign(scene.a, 9, Revocation{scene.b.public_key(), {}});
  EXPECT_FALSE(scene.list.merge({late}).value());
  EXPECT_TRUE(scene.list.merge({late, revocation}).value());
  EXPECT_FALSE(scene.list.contains(id_of(scene.b)));
  EXPECT_EQ(scene.list.enrol(scene.a, scene.c.public_key(), "c").error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(MemberList::decode(scene.list.encode()).value().digest(), scene.list.digest());
}

TEST(MemberList, AnAdminCannotFillTheListWithRevocations) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  const Statement of_b = scene.sign(scene.a, 3, scene.enrolment(scene.b, "b", Role::kAdmin));
  const Statement of_c = scene.sign(scene.b, 4, scene.enrolment(scene.c, "c"));
  ASSERT_TRUE(scene.list.merge({of_b, of_c}).value());
  // Of a key that was never let in.
  EXPECT_FALSE(scene.list.merge({scene.sign(scene.a, 9, Revocation{scene.d.public_key(), {}})}).value());
  std::vector<Statement> all = scene.list.statements();
  for (std::uint64_t epoch = 5; epoch < 8; ++epoch) {
    all.push_back(scene.sign(scene.a, epoch, Revocation{scene.b.public_key(), {of_c.digest()}}));
  }
  EXPECT_TRUE(scene.heard(all).contains(id_of(scene.c)));
  for (std::uint64_t epoch = 8; epoch < 20; ++epoch) {
    all.push_back(scene.sign(scene.a, epoch, Revocation{scene.b.public_key(), {of_c.digest()}}));
  }
  const MemberList forwards = scene.heard(all);
  std::ranges::reverse(all);
  EXPECT_EQ(scene.heard(all).digest(), forwards.digest()) << "it does not matter which are heard first";
  EXPECT_EQ(forwards.statements().size(), 4 + kMaxRevocationsOfAKey);
  EXPECT_FALSE(forwards.contains(id_of(scene.b)));
  // One that was left out may have kept nothing, and a thief must gain nothing by having it left out.
  EXPECT_FALSE(forwards.contains(id_of(scene.c)));
}

TEST(MemberList, SaysWhomANodeHasLetIn) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  ASSERT_TRUE(scene.list.enrol(scene.b, scene.c.public_key(), "c"));
  ASSERT_TRUE(scene.list.promote(scene.b, id_of(scene.c)));
  EXPECT_TRUE(scene.list.let_in_by(id_of(scene.c)).empty());
  ASSERT_TRUE(scene.list.revoke(scene.a, id_of(scene.b)));
  const auto stay = scene.list.let_in_by(id_of(scene.b));
  ASSERT_EQ(stay.size(), 1u);
  EXPECT_EQ(stay[0].name, "c");
  EXPECT_EQ(stay[0].role, Role::kAdmin);
}

TEST(MemberList, SplitNetworksAgreeWhenTheyHeal) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.promote(scene.a, id_of(scene.b)));
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.c.public_key(), "c"));
  MemberList left = scene.list;
  MemberList right = scene.list;
  ASSERT_TRUE(left.enrol(scene.a, scene.d.public_key(), "d"));
  ASSERT_TRUE(right.revoke(scene.b, id_of(scene.c)));
  ASSERT_TRUE(left.promote(scene.a, id_of(scene.c)));
  const auto of_right = right.statements();
  ASSERT_TRUE(right.merge(left.statements()).value());
  ASSERT_TRUE(left.merge(of_right).value());
  EXPECT_EQ(left.digest(), right.digest());
  EXPECT_EQ(left.members(), right.members());
  EXPECT_TRUE(left.contains(id_of(scene.d)));
  EXPECT_FALSE(left.contains(id_of(scene.c)));
}

TEST(MemberList, ReadsWhatItWritesAndNothingElse) {
  Scene scene;
  ASSERT_TRUE(scene.list.enrol(scene.a, scene.b.public_key(), "b"));
  ASSERT_TRUE(scene.list.revoke(scene.a, id_of(scene.b)));
  const Bytes bytes = scene.list.encode();
  const MemberList read = MemberList::decode(bytes).value();
  EXPECT_EQ(read.digest(), scene.list.digest());
  EXPECT_EQ(read.members(), scene.list.members());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes changed = bytes;
    changed[i] ^= std::byte{1};
    EXPECT_FALSE(MemberList::decode(changed)) << i;
    EXPECT_FALSE(MemberList::decode(ByteSpan(bytes).first(i))) << i;
  }
}

TEST(MemberList, IsOfOneCluster) {
  Scene scene;
  const Scene other;
  EXPECT_EQ(MemberList::create(other.list.cluster(), scene.genesis).error().code, ErrorCode::kRefused);
  EXPECT_EQ(scene.list.merge(other.list.statements()).error().code, ErrorCode::kRefused);
}

}  // namespace
}  // namespace baton::trust
