#include "cluster/home.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "cluster/control.h"
#include "net/loopback.h"

namespace baton::cluster {

Result<std::unique_ptr<Home>> Home::open(net::EventLoop& loop, const std::filesystem::path& path) {
  Folder folder = TRY(Folder::open(path));
  FileLock lock = TRY(folder.lock());
  return std::unique_ptr<Home>(new Home(loop, std::move(folder), std::move(lock)));
}

Home::Home(net::EventLoop& loop, Folder folder, FileLock lock)
    : loop_(loop), folder_(std::move(folder)), lock_(std::move(lock)) {}

Home::~Home() {
  if (membership_) folder_.remove_running();
}

Result<void> Home::enter(MembershipOptions options, const NewCluster& otherwise, LocalNetwork local_network) {
  if (!TRY(folder_.read_members())) {
    TRY(Membership::found(folder_, otherwise.name, otherwise.node_name, options.certificate_life));
    log::info("this is the first node of the new cluster '{}'; 'baton token' lets others join", otherwise.name);
  }
  membership_ = TRY(Membership::create(loop_, folder_, std::move(options)));
  answer_commands(*membership_);
  if (local_network == LocalNetwork::kSearched) search();
  net::Endpoint here = membership_->endpoint();
  if (here.host == "::" || here.host == "0.0.0.0") here.host = "127.0.0.1";
  return folder_.write_running(here);
}

void Home::search() {
  const std::vector<net::Endpoint> addresses = membership_->addresses();
  // Nobody else could reach it.
  if (std::ranges::all_of(addresses, net::is_loopback, &net::Endpoint::host)) return;
  const net::Fingerprint self = identity().fingerprint();
  const std::string cluster = net::service_cluster(membership_->list().cluster());
  net::Announcement own{.record = {.node = self, .cluster = cluster, .addresses = addresses},
                        .port = membership_->endpoint().port};
  net::ServiceDiscovery::Events events;
  events.found = [this, self, cluster](const net::ServiceRecord& found) {
    if (found.node != self && found.cluster == cluster) membership_->hear_of(found.node, found.addresses);
  };
  events.state = [](const Result<void>& state) {
    if (state)
      return log::info("announced on the local network as {}, and looking for the others there", net::kServiceType);
    log::info("the others are found by the addresses that are known of them, and not on the local network: {}",
              state.error().message);
  };
  discovery_ = net::ServiceDiscovery::start(loop_, std::move(own), std::move(events));
}

}  // namespace baton::cluster
