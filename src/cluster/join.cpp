#include "cluster/join.h"

#include <format>
#include <optional>

#include "cluster/link.h"
#include "net/transport.h"
#include "trust/certificate.h"

namespace baton::cluster {

namespace {

// What the other side has said, piece by piece. Nothing of it is believed before check().
struct Welcome {
  std::vector<trust::Statement> statements;
  AddressBook addresses;
  std::optional<Bytes> certificate;
};

class Joining {
 public:
  Joining(net::EventLoop& loop, const Folder& folder, const trust::JoinToken& token, std::string name)
      : loop_(loop), folder_(folder), token_(token), name_(std::move(name)) {}
  ~Joining() {
    if (link_) link_->abandon();
  }

  Result<Welcome> run(net::Transport& transport, const std::vector<net::Endpoint>& addresses, Duration patience);

 private:
  void on_dialled(const net::Endpoint& endpoint, Result<std::shared_ptr<net::Connection>> dialled);
  Result<void> take(const Message& message);
  void end(Result<void> outcome) {
    outcome_ = std::move(outcome);
    loop_.stop();
  }

  net::EventLoop& loop_;
  const Folder& folder_;
  const trust::JoinToken& token_;
  std::string name_;
  std::vector<std::unique_ptr<net::Dial>> dials_;
  std::size_t dials_open_ = 0;
  std::shared_ptr<Link> link_;
  Welcome welcome_;
  Result<void> outcome_ = fail(ErrorCode::kTimeout, "the cluster did not answer in time");
};

Result<Welcome> Joining::run(net::Transport& transport, const std::vector<net::Endpoint>& addresses,
                             Duration patience) {
  net::Timer deadline(loop_);
  deadline.start(patience, [this] { loop_.stop(); });
  dials_open_ = addresses.size();
  for (const net::Endpoint& endpoint : addresses) {
    dials_.push_back(transport.dial({endpoint, token_.issuer}, net::Protocol::kMembership, now() + patience,
                                    [this, endpoint](auto dialled) { on_dialled(endpoint, std::move(dialled)); }));
  }
  loop_.run();
  TRY(std::move(outcome_));
  return std::move(welcome_);
}

void Joining::on_dialled(const net::Endpoint& endpoint, Result<std::shared_ptr<net::Connection>> dialled) {
  --dials_open_;
  if (link_) return;
  if (!dialled) {
    Error error = dialled.error();
    if (error.code == ErrorCode::kRefused) {
      error = {ErrorCode::kRefused,
               "the token was not taken: it was used or has expired, or another machine answers there; make a new one "
               "with 'baton token'",
               endpoint.to_string()};
    }
    // One that answers may still come.
    if (dials_open_ == 0) end(std::unexpected(error));
    return;
  }
  welcome_.addresses[token_.issuer].push_back(endpoint);
  Link::Events events;
  events.greeted = [this](Link& link) {
    const SigningKey& key = folder_.identity().signing_key();
    link.say(Join{key.public_key(), prove_join(key, trust::node_id(token_.key().public_key())), name_});
  };
  events.heard = [this](Link&, const Message& message) {
    if (auto taken = take(message); !taken) end(std::unexpected(std::move(taken).error()));
  };
  events.closed = [this](Link&, const Error& error) { end(std::unexpected(error)); };
  link_ = Link::start(loop_, std::move(*dialled), DialledBy::kUs, std::move(events));
}

Result<void> Joining::take(const Message& message) {
  if (const auto* statements = std::get_if<Statements>(&message)) {
    for (const Bytes& bytes : statements->statements) {
      if (welcome_.statements.size() >= trust::kMaxStatements) return fail(ErrorCode::kProtocol, "the list never ends");
      welcome_.statements.push_back(TRY(trust::Statement::decode(bytes)));
    }
  } else if (const auto* addresses = std::get_if<Addresses>(&message)) {
    welcome_.addresses.insert(addresses->of.begin(), addresses->of.end());
  } else if (const auto* certificate = std::get_if<Certificate>(&message)) {
    welcome_.certificate = certificate->der;
    end({});
  } else if (const auto* refused = std::get_if<Refused>(&message)) {
    return std::unexpected(refused->error);
  }
  return {};
}

// The list must begin with the very statement that the token names the cluster by, and hold this node's key.
Result<trust::MemberList> check(const Welcome& welcome, const trust::JoinToken& token, const net::Fingerprint& self) {
  if (welcome.statements.empty()) return fail(ErrorCode::kProtocol, "the cluster sent no member list");
  auto list = TRY(trust::MemberList::create(token.cluster, welcome.statements.front()));
  TRY(list.merge(welcome.statements));
  const auto claims = TRY(net::read_certificate(*welcome.certificate));
  TRY(trust::check_certificate(list, *welcome.certificate, self, claims.begin_s));
  return list;
}

}  // namespace

Result<Joined> join(const Folder& folder, const trust::JoinToken& token, const std::vector<net::Endpoint>& addresses,
                    const std::string& name, Duration patience) {
  // Until the end, so that no node begins a cluster in the folder meanwhile.
  const auto lock = folder.lock();
  if (const auto list = TRY(folder.read_members())) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("this machine is in the cluster '{}' already: 'baton leave' takes it out", list->cluster_name()),
        folder.path().string());
  }
  if (!lock) return std::unexpected(lock.error());
  TRY(trust::check_name(name));
  const std::vector<net::Endpoint>& where = addresses.empty() ? token.addresses : addresses;
  if (where.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the token names no address: give one, 'baton join TOKEN host:port'");
  }
  const auto loop = TRY(net::EventLoop::create());
  const auto transport = TRY(net::Transport::create(*loop, TRY(net::Identity::from_key(token.key()))));
  const Welcome welcome = TRY(Joining(*loop, folder, token, name).run(*transport, where, patience));
  const net::Fingerprint& self = folder.identity().fingerprint();
  const auto list = TRY(check(welcome, token, self));
  AddressBook book = welcome.addresses;
  std::erase_if(book, [&](const auto& entry) { return !list.contains(entry.first) || entry.first == self; });
  TRY(folder.write_addresses(book));
  TRY(folder.write_certificate(*welcome.certificate));
  // The list last: with it this machine is in.
  TRY(folder.write_members(list));
  return Joined{list.cluster_name(), list.find(self)->name, list.members().size()};
}

}  // namespace baton::cluster
