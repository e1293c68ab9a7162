#include "trust/statement.h"

#include <algorithm>
#include <format>

#include "trust/wire.h"

namespace baton::trust {

namespace {

constexpr std::string_view kStatementPurpose = "baton statement 1";
constexpr std::uint8_t kStatementFormat = 1;

enum class Kind : std::uint8_t { kGenesis = 1, kEnrolment = 2, kRevocation = 3 };

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorCode::kCorrupt, std::format("a membership statement is malformed: {}", what));
}

Result<void> check(const StatementBody& body) {
  if (const auto* genesis = std::get_if<Genesis>(&body)) {
    TRY(check_name(genesis->cluster_name));
    return check_name(genesis->node_name);
  }
  if (const auto* enrolment = std::get_if<Enrolment>(&body)) return check_name(enrolment->name);
  const auto& kept = std::get<Revocation>(body).kept;
  if (kept.size() > kMaxKeptStatements) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("a revocation can keep {} statements, not {}", kMaxKeptStatements, kept.size()));
  }
  if (std::ranges::adjacent_find(kept, std::greater_equal()) != kept.end()) {
    return fail(ErrorCode::kInvalidArgument, "what a revocation keeps is not in order");
  }
  return {};
}

struct BodyWriter {
  ByteWriter& out;
  void operator()(const Genesis& genesis) const {
    out.write_string<std::uint8_t>(genesis.cluster_name);
    out.write_bytes(genesis.nonce);
    out.write_string<std::uint8_t>(genesis.node_name);
  }
  void operator()(const Enrolment& enrolment) const {
    out.write_bytes(enrolment.key.bytes);
    out.write(enrolment.role);
    out.write_string<std::uint8_t>(enrolment.name);
  }
  void operator()(const Revocation& revocation) const {
    out.write_bytes(revocation.key.bytes);
    out.write(static_cast<std::uint16_t>(revocation.kept.size()));
    for (const Sha256& digest : revocation.kept) out.write_bytes(digest.bytes);
  }
};

Result<StatementBody> read_body(Kind kind, ByteReader& in) {
  switch (kind) {
    case Kind::kGenesis: {
      Genesis genesis;
      genesis.cluster_name = TRY(in.read_string<std::uint8_t>());
      genesis.nonce = TRY(read_array<16>(in));
      genesis.node_name = TRY(in.read_string<std::uint8_t>());
      return genesis;
    }
    case Kind::kEnrolment: {
      Enrolment enrolment;
      enrolment.key.bytes = TRY(read_array<32>(in));
      enrolment.role = TRY(in.read<Role>());
      if (enrolment.role != Role::kMember && enrolment.role != Role::kAdmin) return malformed("there is no such role");
      enrolment.name = TRY(in.read_string<std::uint8_t>());
      return enrolment;
    }
    case Kind::kRevocation: {
      Revocation revocation;
      revocation.key.bytes = TRY(read_array<32>(in));
      const auto count = TRY(in.read<std::uint16_t>());
      if (count > kMaxKeptStatements) return malformed("it keeps too many statements");
      for (std::uint16_t i = 0; i < count; ++i) revocation.kept.push_back({ TRY(read_array<32>(in)) });
      return revocation;
    }
  }
  return malformed(std::format("there is no kind {}", static_cast<unsigned>(kind)));
}

}  // namespace

net::Fingerprint node_id(const PublicKey& key) {
  // A DER SubjectPublicKeyInfo of an Ed25519 key is these bytes and the key (RFC 8410, 4).
  static constexpr std::array<std::uint8_t, 12> kPrefix = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                                           0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
  ByteWriter out;
  out.write_bytes(std::as_bytes(std::span(kPrefix)));
  out.write_bytes(key.bytes);
  return {sha256(out.bytes())};
}

Result<void> check_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (name.empty() || name.size() > kMaxNameBytes || !std::ranges::all_of(name, allowed) || name == "local") {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' cannot be a name: it needs 1 to {} letters, digits, '.', '_' or '-', and 'local' is "
                            "taken",
                            printable(name), kMaxNameBytes));
  }
  return {};
}

Result<Statement> Statement::sign(const SigningKey& issuer, const Sha256& cluster, std::uint64_t epoch,
                                  StatementBody body) {
  TRY(check(body));
  const bool begins = std::holds_alternative<Genesis>(body);
  ByteWriter out;
  out.write(kStatementFormat);
  out.write(static_cast<std::uint8_t>(body.index() + 1));
  out.write(std::uint16_t{0});
  out.write_bytes(begins ? Sha256{}.bytes : cluster.bytes);
  out.write(epoch);
  out.write_bytes(issuer.public_key().bytes);
  std::visit(BodyWriter{out}, body);
  out.write_bytes(issuer.sign(kStatementPurpose, out.bytes()).bytes);
  return decode(out.bytes());
}

Result<Statement> Statement::decode(ByteSpan bytes) {
  if (bytes.size() > kMaxStatementBytes) return malformed("it is too long");
  ByteReader in(bytes);
  Statement statement;
  if (TRY(in.read<std::uint8_t>()) != kStatementFormat)
    return malformed("it has another format; this baton is too old for it");
  const auto kind = TRY(in.read<Kind>());
  if (TRY(in.read<std::uint16_t>()) != 0) return malformed("a reserved field is set");
  statement.cluster_.bytes = TRY(read_array<32>(in));
  statement.epoch_ = TRY(in.read<std::uint64_t>());
  if (statement.epoch_ == 0 || statement.epoch_ > kMaxEpoch) return malformed("its epoch is out of range");
  statement.issuer_.bytes = TRY(read_array<32>(in));
  statement.body_ = TRY(read_body(kind, in));
  if (const auto good = check(statement.body_); !good) return malformed(good.error().message);
  const std::size_t signed_size = in.position();
  Signature signature;
  signature.bytes = TRY(read_array<64>(in));
  if (in.remaining() != 0) return malformed("bytes follow its end");
  statement.digest_ = sha256(bytes);
  if (kind == Kind::kGenesis) {
    if (statement.cluster_ != Sha256{}) return malformed("a first statement names a cluster");
    statement.cluster_ = statement.digest_;
  }
  if (!verify(statement.issuer_, kStatementPurpose, bytes.first(signed_size), signature)) {
    return fail(ErrorCode::kRefused, "a membership statement's signature is wrong: it was changed or forged");
  }
  statement.bytes_.assign(bytes.begin(), bytes.end());
  return statement;
}

}  // namespace baton::trust
