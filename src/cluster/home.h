// This machine's place in its cluster while its node runs: the data folder, which no second node uses meanwhile, the
// cluster, begun where there is none yet, the membership, and the note by which this machine's other processes find it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cluster/membership.h"
#include "net/service_discovery.h"

namespace baton::cluster {

// What is begun where the folder belongs to no cluster.
struct NewCluster {
  std::string name = "home";
  std::string node_name;
};

// Whether the node announces itself on the local network, and looks for the others there.
enum class LocalNetwork { kSearched, kLeftAlone };

// Lives on the loop's thread; the loop must outlive it.
class Home {
 public:
  // The folder is made at first use. Errors: kNoCapacity where a node runs with it already; those of Folder::open.
  static Result<std::unique_ptr<Home>> open(net::EventLoop& loop, const std::filesystem::path& path);
  ~Home();

  const net::Identity& identity() const { return folder_.identity(); }

  // Listens for the others and for commands such as `baton nodes`, from the loop's next turn on. Once. Errors: those of
  // Membership::found and Membership::create; kIo.
  Result<void> enter(MembershipOptions options, const NewCluster& otherwise, LocalNetwork local_network);

  // After enter().
  Membership& membership() { return *membership_; }

 private:
  Home(net::EventLoop& loop, Folder folder, FileLock lock);
  void search();

  net::EventLoop& loop_;
  Folder folder_;
  FileLock lock_;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<net::ServiceDiscovery> discovery_;
};

}  // namespace baton::cluster
