#include "cluster/home.h"

#include <utility>

#include "base/log.h"
#include "cluster/control.h"

namespace baton::cluster {

Result<std::unique_ptr<Home>> Home::open(net::EventLoop& loop, const std::filesystem::path& path) {
  Folder folder = TRY(Folder::open(path));
  Folder::Lock lock = TRY(folder.lock());
  return std::unique_ptr<Home>(new Home(loop, std::move(folder), std::move(lock)));
}

Home::Home(net::EventLoop& loop, Folder folder, Folder::Lock lock)
    : loop_(loop), folder_(std::move(folder)), lock_(std::move(lock)) {}

Home::~Home() {
  if (membership_) folder_.remove_running();
}

Result<void> Home::enter(MembershipOptions options, const NewCluster& otherwise) {
  if (!TRY(folder_.read_members())) {
    TRY(Membership::found(folder_, otherwise.name, otherwise.node_name, options.certificate_life));
    log::info("this is the first node of the new cluster '{}'; 'baton token' lets others join", otherwise.name);
  }
  membership_ = TRY(Membership::create(loop_, folder_, std::move(options)));
  answer_commands(*membership_);
  net::Endpoint here = membership_->endpoint();
  if (here.host == "::" || here.host == "0.0.0.0") here.host = "127.0.0.1";
  return folder_.write_running(here);
}

}  // namespace baton::cluster
