// What an admin of a cluster has signed: the bytes of docs/formats/membership.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/ed25519.h"
#include "base/result.h"
#include "net/fingerprint.h"

namespace baton::trust {

inline constexpr std::size_t kMaxNameBytes = 63;
inline constexpr std::size_t kMaxKeptStatements = 2048;
inline constexpr std::size_t kMaxStatementBytes = 128 * 1024;

// A node is known by its key, so its id is the same after every restart, wherever it then is.
net::Fingerprint node_id(const PublicKey& key);

// Letters, digits, '.', '_' and '-', at most kMaxNameBytes, and not "local", which plans use for oneself.
Result<void> check_name(std::string_view name);

enum class Role : std::uint8_t {
  kMember = 0,
  kAdmin = 1,  // may enrol, renew and revoke
};

// The first statement of every cluster; its digest is the cluster's name. The issuer is the first admin.
struct Genesis {
  std::string cluster_name;
  std::array<std::byte, 16> nonce{};
  std::string node_name;
  bool operator==(const Genesis&) const = default;
};

struct Enrolment {
  PublicKey key;
  Role role = Role::kMember;
  std::string name;
  bool operator==(const Enrolment&) const = default;
};

// The key is out, for ever. Of what it had itself signed, only what is kept stays good: so a stolen admin's key cannot
// enrol anybody by dating a statement back.
struct Revocation {
  PublicKey key;
  std::vector<Sha256> kept;  // digests of statements, ascending
  bool operator==(const Revocation&) const = default;
};

using StatementBody = std::variant<Genesis, Enrolment, Revocation>;

// A statement whose form and signature were checked. Whether its issuer had the right to make it is for the MemberList
// to say.
class Statement {
 public:
  // Errors: kInvalidArgument for a name or list that cannot be.
  static Result<Statement> sign(const SigningKey& issuer, const Sha256& cluster, std::uint64_t epoch,
                                StatementBody body);
  // Errors: kCorrupt for malformed bytes, kRefused for a signature that is not the issuer's.
  static Result<Statement> decode(ByteSpan bytes);

  const Sha256& digest() const { return digest_; }
  const Sha256& cluster() const { return cluster_; }  // of a Genesis: its own digest
  std::uint64_t epoch() const { return epoch_; }
  const PublicKey& issuer() const { return issuer_; }
  const StatementBody& body() const { return body_; }
  ByteSpan bytes() const { return bytes_; }

 private:
  Statement() = default;
  Sha256 digest_;
  Sha256 cluster_;
  std::uint64_t epoch_ = 0;
  PublicKey issuer_;
  StatementBody body_;
  Bytes bytes_;
};

}  // namespace baton::trust
