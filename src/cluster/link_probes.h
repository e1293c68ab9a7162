// What this node's links carry: each is measured when a peer comes, while both have nothing else to do, and again when
// somebody doubts it. Where they always have something to do, it is measured beside that, so that they can share it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "cluster/link_probe.h"
#include "cluster/membership.h"

namespace baton::cluster {

// Lives on the loop's thread; loop and membership must outlive it.
class LinkProbes {
 public:
  // `is_idle`: whether this node does nothing that a burst would disturb.
  LinkProbes(net::EventLoop& loop, std::function<bool()> is_idle);
  ~LinkProbes();
  LinkProbes(const LinkProbes&) = delete;
  LinkProbes& operator=(const LinkProbes&) = delete;

  // Begins to look who is there.
  void watch(Membership& membership);
  // A peer measures.
  void adopt(std::shared_ptr<net::Connection> connection);
  // What was measured no longer fits what is seen: it is measured again.
  void doubt(const net::Fingerprint& peer);

  // Nothing where it was not measured yet.
  std::optional<LinkRates> rates(const net::Fingerprint& peer) const;

 private:
  struct Peer {
    net::Endpoint endpoint = {};  // which the rates are of
    TimePoint known_since{};
    std::optional<LinkRates> rates = std::nullopt;
    bool wanted = true;  // to be measured
    TimePoint next_try{};
  };

  void tick();
  void probe(const net::Fingerprint& peer, const net::Endpoint& endpoint, LinkProbe::Now load);
  void on_measured(const net::Fingerprint& peer, const Result<LinkRates>& measured, LinkProbe::Now load);

  net::EventLoop& loop_;
  Membership* membership_ = nullptr;
  std::function<bool()> is_idle_;
  std::map<net::Fingerprint, Peer> peers_;  // members that were met
  std::unique_ptr<net::Dial> dial_;
  std::shared_ptr<LinkProbe> probe_;                // of this node's own; one at a time
  std::vector<std::weak_ptr<LinkProbe>> answered_;  // of peers
  net::Timer timer_;
};

// Where other nodes reach a peer: of the addresses that it tells the one where it is connected, or one of the same host
// (where it called from another port), or else the first. Where it tells none: where it was met.
std::optional<net::Endpoint> work_endpoint(const NodeState& told, const std::string& met_at);

}  // namespace baton::cluster
