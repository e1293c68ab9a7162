// Who belongs to a cluster: a set of signed statements and what follows from them.
//
// Two lists merge by the union of their statements, so it does not matter who heard what when: nodes that have heard
// the same say the same. What follows from a set is worked out in this order (docs/formats/membership.md):
//   1. Who was ever an admin: the founder, and whom an admin of this kind enrolled as one.
//   2. Who is revoked: whom any of these revoked, or who revoked himself. A revocation always wins, and always has
//   room.
//   3. Which enrolments are good: those of the founder or a well enrolled admin; where that issuer is revoked, only
//      what every revocation of it keeps (one's own revocation of oneself counts only where there is no other, and of
//      kMaxRevocationsOfAKey nothing is kept).
//   4. The members: well enrolled and not revoked. Of a node's enrolments the highest epoch gives the name; once an
//      admin, it is an admin until it is revoked.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "trust/statement.h"

namespace baton::trust {

inline constexpr std::size_t kMaxEnrolments = 4096;  // the first statement counted in
// By others; of more, those of least digest stay. Nobody needs so many: they only have to be bounded.
inline constexpr std::size_t kMaxRevocationsOfAKey = 4;
inline constexpr std::size_t kMaxStatements = kMaxEnrolments * (1 + kMaxRevocationsOfAKey + 1);

struct Member {
  net::Fingerprint id;
  PublicKey key;
  Role role = Role::kMember;
  std::string name;
  std::uint64_t epoch = 0;
  bool operator==(const Member&) const = default;
};

class MemberList {
 public:
  // A new cluster whose first admin is `founder`.
  static Result<MemberList> found(const SigningKey& founder, std::string cluster_name, std::string node_name);
  // Begins with what a token or a file says the cluster is. Errors: kRefused where `genesis` is of another one.
  static Result<MemberList> create(const Sha256& cluster, const Statement& genesis);
  // The whole list, as encode() wrote it. Errors: kCorrupt, kRefused.
  static Result<MemberList> decode(ByteSpan bytes);
  Bytes encode() const;

  const Sha256& cluster() const { return cluster_; }
  const std::string& cluster_name() const { return cluster_name_; }
  std::uint64_t epoch() const { return epoch_; }  // the highest that an admin has signed
  // Equal where two lists hold the same statements.
  const Sha256& digest() const { return digest_; }
  bool knows(const Sha256& statement) const { return statements_.contains(statement); }
  // In an order in which each can be merged: nothing comes before what gives its issuer the right.
  std::vector<Statement> statements() const;

  // Takes what can be taken and says whether anything was new. What nobody with the right to do so has said is left
  // out, silently: its issuer's enrolment may simply not have come yet; and so are enrolments beyond kMaxEnrolments.
  // Errors: kRefused for a statement of another cluster; what came before stays.
  Result<bool> merge(const std::vector<Statement>& statements);

  // By id.
  const std::map<net::Fingerprint, Member>& members() const { return members_; }
  const Member* find(const net::Fingerprint& id) const;
  bool contains(const net::Fingerprint& id) const { return find(id) != nullptr; }
  bool is_admin(const net::Fingerprint& id) const;
  bool is_revoked(const net::Fingerprint& id) const { return revoked_.contains(id); }
  // By name, or by the first digits of the id (at least 6) where that is clear. kNotFound, kInvalidArgument.
  Result<Member> resolve(std::string_view name_or_id) const;

  // Whom the good enrolments of this node have let in or made admins, and who are members: what stays if it is revoked.
  std::vector<Member> let_in_by(const net::Fingerprint& issuer) const;

  // Each signs a statement, at the next epoch, and merges it. kRefused where `admin` is none, or what is asked would
  // leave the cluster without admins; kNoCapacity where the list is full.
  Result<Statement> enrol(const SigningKey& admin, const PublicKey& key, std::string_view name);
  Result<Statement> promote(const SigningKey& admin, const net::Fingerprint& id);
  // An admin may revoke anybody, everybody may revoke himself. What the revoked one had signed stays good, the lowest
  // epochs first where it is more than a statement can name.
  Result<Statement> revoke(const SigningKey& issuer, const net::Fingerprint& id);

 private:
  MemberList() = default;
  Result<bool> insert(const Statement& statement);
  bool insert_revocation(const Statement& statement, const Revocation& revocation);
  bool insert_enrolment(const Statement& statement);
  void work_out();
  void work_out_admins_ever();
  void work_out_revocations();
  void work_out_members();
  Result<Statement> issue(const SigningKey& issuer, StatementBody body);
  Result<void> check_admin(const SigningKey& issuer) const;
  std::string free_name(std::string_view wanted, const net::Fingerprint& id) const;

  Sha256 cluster_;
  std::string cluster_name_;
  PublicKey founder_;
  std::uint64_t epoch_ = 0;
  std::map<Sha256, Statement> statements_;
  std::size_t enrolments_ = 1;
  std::map<PublicKey, std::set<Sha256>> revocations_by_others_;  // by the key that is out
  std::map<PublicKey, Sha256> leaves_;                           // the revocations of oneself
  std::set<PublicKey> enrolled_ever_;
  std::set<PublicKey> admins_ever_;
  Sha256 digest_;  // of the statements
  // Whom no longer to let in, and what of theirs is kept.
  std::map<net::Fingerprint, std::set<Sha256>> revoked_;
  std::set<Sha256> good_enrolments_;
  std::map<net::Fingerprint, Member> members_;
};

}  // namespace baton::trust
