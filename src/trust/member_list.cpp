#include "trust/member_list.h"

#include <algorithm>
#include <format>

#include "base/random.h"
#include "trust/wire.h"

namespace baton::trust {

namespace {

constexpr std::uint32_t kMagic = 0x4d4e5442;  // "BTNM"
constexpr std::uint16_t kMemberListFormat = 1;
constexpr std::size_t kLeastIdDigits = 6;

std::unexpected<Error> damaged(std::string_view what) {
  return fail(ErrorCode::kCorrupt, std::format("the member list is damaged: {}", what));
}

bool is_own_revocation(const Statement& statement) {
  const auto* revocation = std::get_if<Revocation>(&statement.body());
  return revocation != nullptr && revocation->key == statement.issuer();
}

std::set<Sha256> intersection(const std::set<Sha256>& left, const std::vector<Sha256>& right) {
  std::set<Sha256> both;
  std::ranges::set_intersection(left, right, std::inserter(both, both.end()));
  return both;
}

}  // namespace

Result<MemberList> MemberList::found(const SigningKey& founder, std::string cluster_name, std::string node_name) {
  Genesis genesis{.cluster_name = std::move(cluster_name), .nonce = {}, .node_name = std::move(node_name)};
  fill_random(genesis.nonce);
  const Statement statement = TRY(Statement::sign(founder, {}, 1, std::move(genesis)));
  return create(statement.cluster(), statement);
}

Result<MemberList> MemberList::create(const Sha256& cluster, const Statement& genesis) {
  const auto* body = std::get_if<Genesis>(&genesis.body());
  if (body == nullptr || genesis.cluster() != cluster) {
    return fail(ErrorCode::kRefused, std::format("this is not the cluster {}", cluster.hex().substr(0, 12)));
  }
  MemberList list;
  list.cluster_ = cluster;
  list.cluster_name_ = body->cluster_name;
  list.founder_ = genesis.issuer();
  list.statements_.emplace(genesis.digest(), genesis);
  list.enrolled_ever_.insert(list.founder_);
  list.work_out();
  return list;
}

Bytes MemberList::encode() const {
  ByteWriter out;
  out.write(kMagic);
  out.write(kMemberListFormat);
  out.write(std::uint16_t{0});
  out.write(static_cast<std::uint32_t>(statements_.size()));
  for (const Statement& statement : statements()) {
    out.write(static_cast<std::uint32_t>(statement.bytes().size()));
    out.write_bytes(statement.bytes());
  }
  return std::move(out).take();
}

Result<MemberList> MemberList::decode(ByteSpan bytes) {
  ByteReader in(bytes);
  if (TRY(in.read<std::uint32_t>()) != kMagic) return damaged("it does not begin as one");
  if (TRY(in.read<std::uint16_t>()) != kMemberListFormat || TRY(in.read<std::uint16_t>()) != 0) {
    return damaged("it has another format; this baton is too old for it");
  }
  const auto count = TRY(in.read<std::uint32_t>());
  if (count == 0 || count > kMaxStatements) return damaged(std::format("it cannot hold {} statements", count));
  std::vector<Statement> statements;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto size = TRY(in.read<std::uint32_t>());
    statements.push_back(TRY(Statement::decode(TRY(in.read_bytes(size)))));
  }
  if (in.remaining() != 0) return damaged("bytes follow its end");
  MemberList list = TRY(create(statements.front().cluster(), statements.front()));
  TRY(list.merge(statements));
  if (list.statements_.size() != count) return damaged("it holds statements that nobody could make");
  return list;
}

std::vector<Statement> MemberList::statements() const {
  std::vector<Statement> sorted;
  for (const auto& [digest, statement] : statements_) sorted.push_back(statement);
  // Whoever signs has seen what gave him the right, and counts on from there. (Only a faulty admin would not; then
  // merge() goes round once more.)
  std::ranges::sort(sorted, [](const Statement& left, const Statement& right) {
    return std::pair(left.epoch(), left.digest()) < std::pair(right.epoch(), right.digest());
  });
  const auto genesis = std::ranges::find(sorted, cluster_, &Statement::digest);
  std::rotate(sorted.begin(), genesis, genesis + 1);
  return sorted;
}

Result<bool> MemberList::merge(const std::vector<Statement>& statements) {
  bool changed = false;
  // Round by round, until nobody's right to speak follows from what came last.
  for (bool again = true; again;) {
    again = false;
    for (const Statement& statement : statements) {
      const auto inserted = insert(statement);
      if (!inserted) {
        work_out();
        return std::unexpected(inserted.error());
      }
      again |= *inserted;
    }
    changed |= again;
  }
  if (changed) work_out();
  return changed;
}

Result<bool> MemberList::insert(const Statement& statement) {
  if (statement.cluster() != cluster_) {
    return fail(ErrorCode::kRefused, "a membership statement is of another cluster");
  }
  if (statements_.contains(statement.digest())) return false;
  if (const auto* revocation = std::get_if<Revocation>(&statement.body())) {
    return insert_revocation(statement, *revocation);
  }
  return insert_enrolment(statement);
}

// Has room whatever else the list holds: else a thief who fills it could never be put out.
bool MemberList::insert_revocation(const Statement& statement, const Revocation& revocation) {
  if (!enrolled_ever_.contains(revocation.key)) return false;
  if (is_own_revocation(statement)) {
    const auto [leave, first] = leaves_.try_emplace(revocation.key, statement.digest());
    if (!first) {
      if (leave->second < statement.digest()) return false;
      statements_.erase(leave->second);
      leave->second = statement.digest();
    }
  } else {
    if (!admins_ever_.contains(statement.issuer())) return false;
    // Always those of least digest, so that it does not matter in which order they come.
    std::set<Sha256>& others = revocations_by_others_[revocation.key];
    others.insert(statement.digest());
    if (others.size() > kMaxRevocationsOfAKey) {
      const Sha256 last = *others.rbegin();
      others.erase(last);
      if (last == statement.digest()) return false;
      statements_.erase(last);
    }
  }
  statements_.emplace(statement.digest(), statement);
  return true;
}

bool MemberList::insert_enrolment(const Statement& statement) {
  if (!admins_ever_.contains(statement.issuer()) || enrolments_ >= kMaxEnrolments) return false;
  statements_.emplace(statement.digest(), statement);
  ++enrolments_;
  if (const auto* enrolment = std::get_if<Enrolment>(&statement.body())) {
    enrolled_ever_.insert(enrolment->key);
    if (enrolment->role == Role::kAdmin) admins_ever_.insert(enrolment->key);
  }
  return true;
}

void MemberList::work_out() {
  epoch_ = 0;
  ByteWriter digests;
  for (const auto& [digest, statement] : statements_) {
    // A plain member says nothing but that it leaves, at an epoch of its choice.
    if (!is_own_revocation(statement)) epoch_ = std::max(epoch_, statement.epoch());
    digests.write_bytes(digest.bytes);
  }
  digest_ = sha256(digests.bytes());
  work_out_admins_ever();
  work_out_revocations();
  work_out_members();
}

void MemberList::work_out_admins_ever() {
  admins_ever_ = {founder_};
  for (bool again = true; again;) {
    again = false;
    for (const auto& [digest, statement] : statements_) {
      const auto* enrolment = std::get_if<Enrolment>(&statement.body());
      if (enrolment == nullptr || enrolment->role != Role::kAdmin || !admins_ever_.contains(statement.issuer()))
        continue;
      again |= admins_ever_.insert(enrolment->key).second;
    }
  }
}

void MemberList::work_out_revocations() {
  revoked_.clear();
  std::set<net::Fingerprint> by_others;
  for (const bool own : {false, true}) {
    for (const auto& [digest, statement] : statements_) {
      const auto* revocation = std::get_if<Revocation>(&statement.body());
      if (revocation == nullptr || is_own_revocation(statement) != own) continue;
      const net::Fingerprint id = node_id(revocation->key);
      if (own && by_others.contains(id)) continue;
      if (!own) by_others.insert(id);
      const auto [entry, first] = revoked_.try_emplace(id, revocation->kept.begin(), revocation->kept.end());
      if (!first) entry->second = intersection(entry->second, revocation->kept);
    }
  }
  // Others may have been left out that kept less.
  for (const auto& [key, digests] : revocations_by_others_) {
    if (digests.size() >= kMaxRevocationsOfAKey) revoked_.at(node_id(key)).clear();
  }
}

void MemberList::work_out_members() {
  std::set<PublicKey> admins = {founder_};
  good_enrolments_.clear();
  for (bool again = true; again;) {
    again = false;
    for (const auto& [digest, statement] : statements_) {
      const auto* enrolment = std::get_if<Enrolment>(&statement.body());
      if (enrolment == nullptr || !admins.contains(statement.issuer())) continue;
      const auto revoked = revoked_.find(node_id(statement.issuer()));
      if (revoked != revoked_.end() && !revoked->second.contains(digest)) continue;
      again |= good_enrolments_.insert(digest).second;
      if (enrolment->role == Role::kAdmin) again |= admins.insert(enrolment->key).second;
    }
  }
  members_.clear();
  const auto add = [&](const PublicKey& key, const std::string& name, std::uint64_t epoch) {
    const net::Fingerprint id = node_id(key);
    if (revoked_.contains(id)) return;
    const Role role = admins.contains(key) ? Role::kAdmin : Role::kMember;
    Member& member = members_.try_emplace(id, Member{id, key, role, name, 0}).first->second;
    // Equal epochs come from two admins who did not hear of each other; the name then decides, everywhere alike.
    if (std::pair(epoch, name) >= std::pair(member.epoch, member.name)) {
      member.name = name;
      member.epoch = epoch;
    }
  };
  add(founder_, std::get<Genesis>(statements_.at(cluster_).body()).node_name, 1);
  for (const Sha256& digest : good_enrolments_) {
    const Statement& statement = statements_.at(digest);
    const auto& enrolment = std::get<Enrolment>(statement.body());
    add(enrolment.key, enrolment.name, statement.epoch());
  }
}

const Member* MemberList::find(const net::Fingerprint& id) const {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : &found->second;
}

bool MemberList::is_admin(const net::Fingerprint& id) const {
  const Member* member = find(id);
  return member != nullptr && member->role == Role::kAdmin;
}

Result<Member> MemberList::resolve(std::string_view name_or_id) const {
  std::vector<Member> found;
  for (const auto& [id, member] : members_) {
    if (member.name == name_or_id) found.push_back(member);
  }
  if (found.empty() && name_or_id.size() >= kLeastIdDigits) {
    for (const auto& [id, member] : members_) {
      if (id.to_string().starts_with(name_or_id)) found.push_back(member);
    }
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    return fail(ErrorCode::kNotFound,
                std::format("the cluster has no node '{}': 'baton nodes' lists them", printable(name_or_id)));
  }
  return fail(ErrorCode::kInvalidArgument,
              std::format("{} nodes are called '{}': give the first digits of the id that 'baton nodes' shows",
                          found.size(), printable(name_or_id)));
}

std::vector<Member> MemberList::let_in_by(const net::Fingerprint& issuer) const {
  std::map<net::Fingerprint, Member> found;
  for (const Sha256& digest : good_enrolments_) {
    const Statement& statement = statements_.at(digest);
    if (node_id(statement.issuer()) != issuer) continue;
    const Member* member = find(node_id(std::get<Enrolment>(statement.body()).key));
    if (member != nullptr && member->id != issuer) found.emplace(member->id, *member);
  }
  std::vector<Member> members;
  for (auto& [id, member] : found) members.push_back(std::move(member));
  return members;
}

Result<void> MemberList::check_admin(const SigningKey& issuer) const {
  if (is_admin(node_id(issuer.public_key()))) return {};
  std::string admins;
  for (const auto& [id, member] : members_) {
    if (member.role == Role::kAdmin) admins += (admins.empty() ? "" : ", ") + member.name;
  }
  return fail(ErrorCode::kRefused,
              std::format("this node is no admin of the cluster; {} may do that{}", admins.empty() ? "nobody" : admins,
                          admins.empty() ? "" : ", and make this one an admin with 'baton promote'"));
}

Result<Statement> MemberList::issue(const SigningKey& issuer, StatementBody body) {
  // Epochs only give an order and the names, so the last one serves for ever.
  const std::uint64_t epoch = std::min(epoch_ + 1, kMaxEpoch);
  Statement statement = TRY(Statement::sign(issuer, cluster_, epoch, std::move(body)));
  TRY(merge({statement}));
  if (!knows(statement.digest())) {
    return fail(ErrorCode::kNoCapacity,
                std::format("the member list is full: it holds {} enrolments; begin a new cluster", kMaxEnrolments));
  }
  return statement;
}

std::string MemberList::free_name(std::string_view wanted, const net::Fingerprint& id) const {
  const auto taken = [&](const std::string& name) {
    return std::ranges::any_of(members_,
                               [&](const auto& entry) { return entry.second.name == name && entry.first != id; });
  };
  std::string name(wanted);
  for (int i = 2; taken(name); ++i) {
    const std::string suffix = std::format("-{}", i);
    name = std::string(wanted.substr(0, kMaxNameBytes - suffix.size())) + suffix;
  }
  return name;
}

Result<Statement> MemberList::enrol(const SigningKey& admin, const PublicKey& key, std::string_view name) {
  TRY(check_admin(admin));
  TRY(check_name(name));
  const net::Fingerprint id = node_id(key);
  if (is_revoked(id)) {
    return fail(ErrorCode::kRefused,
                "this key was revoked and stays out: delete the data folder there, so that it gets a new one, and use "
                "a new token");
  }
  return issue(admin, Enrolment{.key = key, .role = Role::kMember, .name = free_name(name, id)});
}

Result<Statement> MemberList::promote(const SigningKey& admin, const net::Fingerprint& id) {
  TRY(check_admin(admin));
  const Member* member = find(id);
  if (member == nullptr) return fail(ErrorCode::kNotFound, "the cluster has no such node");
  if (member->role == Role::kAdmin) {
    return fail(ErrorCode::kInvalidArgument, std::format("{} is an admin already", member->name));
  }
  return issue(admin, Enrolment{.key = member->key, .role = Role::kAdmin, .name = member->name});
}

Result<Statement> MemberList::revoke(const SigningKey& issuer, const net::Fingerprint& id) {
  const Member* member = find(id);
  if (member == nullptr) return fail(ErrorCode::kNotFound, "the cluster has no such node");
  if (member->key != issuer.public_key()) TRY(check_admin(issuer));
  const auto admins =
      std::ranges::count_if(members_, [](const auto& entry) { return entry.second.role == Role::kAdmin; });
  if (member->role == Role::kAdmin && admins == 1 && members_.size() > 1) {
    return fail(ErrorCode::kRefused,
                std::format("{} is the only admin, and without one nobody could be let in or renewed: promote another "
                            "node first",
                            member->name));
  }
  Revocation revocation{.key = member->key, .kept = {}};
  for (const Sha256& digest : good_enrolments_) {
    if (statements_.at(digest).issuer() == member->key) revocation.kept.push_back(digest);
  }
  if (revocation.kept.size() > kMaxKeptStatements) {
    std::ranges::stable_sort(revocation.kept, {}, [&](const Sha256& digest) { return statements_.at(digest).epoch(); });
    revocation.kept.resize(kMaxKeptStatements);
    std::ranges::sort(revocation.kept);
  }
  return issue(issuer, std::move(revocation));
}

}  // namespace baton::trust
