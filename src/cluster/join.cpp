#include "cluster/join.h"

#include <algorithm>
#include <format>
#include <optional>
#include <utility>

#include "base/log.h"
#include "cluster/link.h"
#include "net/service_discovery.h"
#include "net/transport.h"
#include "trust/certificate.h"

namespace baton::cluster {

namespace {

// What the other side has said, piece by piece. Nothing of it is believed before check().
struct Welcome {
  std::vector<trust::Statement> statements;
  AddressBook addresses;
  std::optional<Bytes> certificate;
  net::Endpoint met_at;
  FoundBy found_by = FoundBy::kAddress;
};

class Joining {
 public:
  Joining(net::EventLoop& loop, const Folder& folder, const trust::JoinToken& token, std::string name)
      : loop_(loop), folder_(folder), token_(token), name_(std::move(name)), search_end_(loop) {}
  ~Joining() {
    if (link_) link_->abandon();
  }

  Result<Welcome> run(net::Transport& transport, const std::vector<net::Endpoint>& addresses, Duration patience);

 private:
  void dial(net::Transport& transport, const net::Endpoint& endpoint, FoundBy found_by, TimePoint deadline);
  void search(net::Transport& transport, TimePoint deadline);
  void end_search();
  void on_dialled(const net::Endpoint& endpoint, FoundBy found_by, Result<std::shared_ptr<net::Connection>> dialled);
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
  std::vector<net::Endpoint> tried_;
  bool searches_ = false;  // one that is found may still answer
  net::Timer search_end_;
  std::unique_ptr<net::ServiceDiscovery> discovery_;
  std::optional<Error> problem_;  // of the last that could not be reached
  std::shared_ptr<Link> link_;
  Welcome welcome_;
  Result<void> outcome_ = fail(ErrorCode::kTimeout, "the cluster did not answer in time");
};

Result<Welcome> Joining::run(net::Transport& transport, const std::vector<net::Endpoint>& addresses,
                             Duration patience) {
  net::Timer deadline(loop_);
  deadline.start(patience, [this] { loop_.stop(); });
  const TimePoint until = now() + patience;
  search(transport, until);
  for (const net::Endpoint& endpoint : addresses) dial(transport, endpoint, FoundBy::kAddress, until);
  loop_.run();
  discovery_.reset();
  TRY(std::move(outcome_));
  return std::move(welcome_);
}

void Joining::dial(net::Transport& transport, const net::Endpoint& endpoint, FoundBy found_by, TimePoint deadline) {
  if (std::ranges::contains(tried_, endpoint)) return;
  tried_.push_back(endpoint);
  ++dials_open_;
  dials_.push_back(
      transport.dial({endpoint, token_.issuer}, net::Protocol::kMembership, deadline,
                     [this, endpoint, found_by](auto dialled) { on_dialled(endpoint, found_by, std::move(dialled)); }));
}

void Joining::search(net::Transport& transport, TimePoint deadline) {
  static constexpr auto kPatience = std::chrono::seconds(3);
  static constexpr std::size_t kMostTried = 64;
  searches_ = true;
  net::ServiceDiscovery::Events events;
  events.found = [this, &transport, deadline](const net::ServiceRecord& found) {
    if (found.node != token_.issuer || link_) return;
    for (const net::Endpoint& endpoint : found.addresses) {
      if (tried_.size() < kMostTried) dial(transport, endpoint, FoundBy::kLocalNetwork, deadline);
    }
  };
  events.state = [this](const Result<void>& state) {
    if (state) return;
    log::debug("not searched on the local network: {}", state.error().message);
    end_search();
  };
  search_end_.start(Duration(kPatience), [this] { end_search(); });
  discovery_ = net::ServiceDiscovery::start(loop_, std::nullopt, std::move(events));
}

void Joining::end_search() {
  searches_ = false;
  if (dials_open_ > 0 || link_) return;
  end(std::unexpected(problem_.value_or(
      Error{ErrorCode::kInvalidArgument,
            "the token names no address, and the node is not found on the local network: give an address, 'baton join "
            "TOKEN host:port'",
            {}})));
}

void Joining::on_dialled(const net::Endpoint& endpoint, FoundBy found_by,
                         Result<std::shared_ptr<net::Connection>> dialled) {
  --dials_open_;
  if (link_) return;
  if (!dialled) {
    problem_ = dialled.error();
    if (problem_->code == ErrorCode::kRefused) {
      problem_ = {ErrorCode::kRefused,
                  "the token was not taken: it was used or has expired; make a new one with 'baton token'",
                  endpoint.to_string()};
    }
    if (problem_->code == ErrorCode::kInvalidArgument) {
      problem_ = {ErrorCode::kRefused,
                  "another machine answers there than the one that made the token; make a new one with 'baton token'",
                  endpoint.to_string()};
    }
    // One that answers may still come.
    if (dials_open_ == 0 && !searches_) end(std::unexpected(*problem_));
    return;
  }
  welcome_.met_at = endpoint;
  welcome_.found_by = found_by;
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
  return Joined{list.cluster_name(), list.find(self)->name, list.members().size(), welcome.met_at, welcome.found_by};
}

}  // namespace baton::cluster
