// A node's part in its cluster: it listens for the others, keeps a connection to each, tells them what it is and hears
// what they are, sees them die and come back, and knows who may connect.
//
// No node is special here: every one does this for itself. What they agree on is the member list (src/trust), which
// they hand to each other until all have the same.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/folder.h"
#include "cluster/guarded_transport.h"
#include "cluster/link.h"
#include "cluster/node_state.h"
#include "net/transport.h"
#include "trust/certificate.h"
#include "trust/cluster_time.h"
#include "trust/token.h"

namespace baton::cluster {

struct MembershipOptions {
  net::Endpoint listen;
  std::vector<net::Endpoint> advertise = {};  // in place of its own addresses; port 0: as it listens
  std::optional<net::LinkEmulation> emulate_link = std::nullopt;
  std::chrono::seconds certificate_life = std::chrono::hours(24);  // of those that this node issues
  std::vector<net::Fingerprint> linked_by_hand = {};  // no members; the owner lets them work for this node all the same
  // All on the loop's thread, none from inside a call to the Membership.
  std::function<NodeState()> state = {};                                // asked twice a second
  std::function<void(std::shared_ptr<net::Connection>)> on_work = {};   // a member has connected to do work
  std::function<void(std::shared_ptr<net::Connection>)> on_probe = {};  // a member measures its link to us
  std::function<void(std::shared_ptr<net::Connection>)> on_fetch = {};  // a member wants one of our models
  std::function<void(const net::Fingerprint&)> on_cut_off = {};         // it is no member any more: end its work
  std::function<void(const Error&)> on_out = {};                        // this node is no member any more
  std::function<std::int64_t()> wall_clock_s = {};                      // since 1970; by default the system's
};

enum class PeerStatus {
  kSelf,
  kAlive,
  kSuspected,     // silent for over a second
  kDown,          // no connection
  kIncompatible,  // speaks another version of the protocol
};
std::string_view peer_status_name(PeerStatus status);

struct PeerView {
  trust::Member member;
  PeerStatus status = PeerStatus::kDown;
  NodeState state = {};
  std::string address = {};  // where it is connected, or was last met
  std::string software = {};
  double round_trip_ms = 0;  // of a quiet moment lately; 0: not measured yet
  std::string problem = {};  // why there is no connection
};

// Lives on the loop's thread; the loop must outlive it.
class Membership {
 public:
  // Errors: kNotFound where the folder belongs to no cluster; kCorrupt, kIo of its files; kRefused where this node was
  // revoked; those of listening.
  static Result<std::unique_ptr<Membership>> create(net::EventLoop& loop, Folder folder, MembershipOptions options);
  // Makes `folder` the first node of a new cluster. kInvalidArgument where it is in one.
  static Result<void> found(const Folder& folder, const std::string& cluster_name, const std::string& node_name,
                            std::chrono::seconds certificate_life);
  ~Membership();

  const net::Endpoint& endpoint() const { return listener_->endpoint(); }
  // Where this node tells the others to reach it.
  std::vector<net::Endpoint> addresses() const;
  // Somebody says that a node is to be found there, and need not be believed: it is tried where nothing better is
  // known, as what other members say is.
  void hear_of(const net::Fingerprint& id, std::vector<net::Endpoint> endpoints);
  const net::Identity& identity() const { return folder_.identity(); }
  const trust::MemberList& list() const { return list_; }
  // For connections that do work; what it hands out has shown a good certificate.
  net::Transport& work_transport() { return work_transport_; }
  bool may_work(const net::Fingerprint& id) const { return list_.contains(id); }
  std::vector<PeerView> peers() const;
  // Of those that are connected, where it was measured.
  std::map<net::Fingerprint, double> round_trips_ms() const;

  // kRefused where this node is no admin, as for all that follows; kInvalidArgument, kNotFound.
  Result<trust::JoinToken> make_token(std::chrono::seconds life);
  Result<void> promote(std::string_view name);
  // Gives the members that the revoked one had let in or made admins: they stay.
  Result<std::vector<trust::Member>> revoke(std::string_view name);
  // This node goes, and says so. Any node may. kUnavailable where there are others and none is connected to hear it.
  Result<void> leave();

  // Answers what this node's own other processes ask, as JSON (src/cluster/control.h).
  using OnAsk = std::function<std::string(const std::string&)>;
  void answer_with(OnAsk on_ask) { on_ask_ = std::move(on_ask); }

  // Tells the others that it goes, and calls back when they have heard it, at the latest after `patience`.
  void shut_down(Duration patience, net::Task task);

 private:
  struct Peer {
    std::vector<std::shared_ptr<Link>> links;  // greeted; the last is used
    std::vector<std::unique_ptr<net::Dial>> dials;
    std::size_t dials_open = 0;
    TimePoint next_dial{};
    StateView view;
    std::string address;
    std::string software;
    std::string problem;
    bool incompatible = false;
    double round_trip_ms = 0;
    std::map<std::uint64_t, TimePoint> pings;
    TimePoint list_sent_at{};
    std::size_t list_sent = 0;  // statements, of the round under way
    std::size_t hearsay = 0;    // so many of its addresses, the last ones, are not from itself

    Link* link() const { return links.empty() ? nullptr : links.back().get(); }
  };

  Membership(net::EventLoop& loop, Folder folder, trust::MemberList list, MembershipOptions options,
             std::unique_ptr<net::Transport> transport);
  Result<void> begin();

  // Connections.
  void on_accept(std::shared_ptr<net::Connection> connection);
  bool lets_in(const net::Fingerprint& key) const;
  using OnConnection = std::function<void(std::shared_ptr<net::Connection>)>;
  const OnConnection& taker_of(net::Protocol protocol) const;
  Result<void> check_worker(const net::Connection& connection) const;
  Result<void> check_dialled(const net::Connection& connection) const;
  void adopt(std::shared_ptr<net::Connection> connection, DialledBy dialled_by);
  void on_greeted(Link& link);
  void on_closed(Link& link, const Error& error);
  void dial(const net::Fingerprint& id, Peer& peer);
  void on_dialled(const net::Fingerprint& id, const net::Endpoint& endpoint,
                  Result<std::shared_ptr<net::Connection>> dialled);
  void tell_all(const Message& message, const Link* except = nullptr);

  // What is heard.
  void on_heard(Link& link, const Message& message);
  void on_heard_from_member(Link& link, const Message& message);
  void on_ping(Link& link, const Ping& ping);
  Result<void> on_statements(Link& link, const Statements& statements);
  void on_addresses(const Addresses& addresses);
  void on_state(Link& link, const State& state);
  void on_join(Link& link, const Join& join);
  void on_certificate(const Certificate& certificate);
  void send_list(Link& link);
  void send_list_page(Link& link, Peer& peer);
  void send_addresses(Link& link);
  void note_addresses(const net::Fingerprint& id, std::vector<net::Endpoint> endpoints);

  // The member list.
  // Errors: kIo where it could not be written down; it holds and is told all the same.
  Result<void> list_changed(const std::vector<trust::Statement>& news, const Link* from);
  void apply_list();

  // The clock's work.
  void tick();
  void watch_links(TimePoint time);
  void ping_links(TimePoint time);
  void refresh_state();
  void renew_certificate(TimePoint time);
  bool certificate_is_good() const;
  Result<void> use_certificate(ByteSpan der);
  std::int64_t time_s() const { return time_.at(now()); }
  std::vector<std::string> own_addresses() const;
  std::string name_of(const net::Fingerprint& id) const;

  net::EventLoop& loop_;
  Folder folder_;
  trust::MemberList list_;
  MembershipOptions options_;
  trust::ClusterTime time_;
  std::unique_ptr<net::Transport> transport_;
  GuardedTransport work_transport_;
  std::unique_ptr<net::Listener> listener_;
  OnAsk on_ask_;
  std::map<net::Fingerprint, Peer> peers_;  // every member but this node
  AddressBook addresses_;
  TokenBook tokens_;
  StateLog log_;
  std::optional<net::CertificateClaims> certificate_;
  std::vector<std::shared_ptr<Link>> links_;  // all that are open
  net::Timer timer_;
  TimePoint last_tick_;
  TimePoint next_ping_{};
  bool addresses_changed_ = false;
  TimePoint next_renewal_{};
  net::Fingerprint asked_last_;  // for a new certificate
  std::uint64_t next_number_ = 1;
  bool out_ = false;
  bool closing_ = false;
  net::Task closed_;
};

}  // namespace baton::cluster
