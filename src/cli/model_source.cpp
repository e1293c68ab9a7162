#include "cli/model_source.h"

#include <algorithm>
#include <cstdlib>
#include <format>
#include <stop_token>
#include <utility>
#include <variant>

#include "base/version.h"
#include "cli/cluster_peers.h"
#include "cli/pull_printer.h"
#include "cli/signals.h"
#include "cluster/control.h"
#include "engine/device.h"
#include "store/model_name.h"

namespace baton::cli {

namespace {

constexpr auto kListTimeout = std::chrono::seconds(1);

Result<std::filesystem::path> model_folder(const LinkFlags& link) {
  if (const char* folder = std::getenv("BATON_MODELS"); folder != nullptr && *folder != '\0') return folder;
  return TRY(link.folder())
  / "models";
}

// Free on the device that has most.
std::uint64_t memory_here_bytes() {
  std::uint64_t most = 0;
  for (const engine::DeviceInfo& device : engine::list_devices()) most = std::max(most, device.memory_free_bytes);
  return most;
}

std::uint64_t memory_of_cluster_bytes(const LinkFlags& link) {
  std::uint64_t most = memory_here_bytes();
  const auto folder = link.folder();
  std::error_code error;
  if (!folder || !std::filesystem::exists(*folder, error)) return most;
  const auto opened = cluster::Folder::open(*folder);
  if (!opened) return most;
  // Only a running node knows how the others are.
  const auto answer = cluster::ask(*opened, {.command = cluster::Command::kNodes}, Duration(kListTimeout));
  if (!answer) return most;
  for (const cluster::NodeReport& node : answer->nodes) {
    for (const auto& device : node.state.devices) most = std::max(most, device.free_bytes);
  }
  return most;
}

bool is_path(const std::string& text) {
  std::error_code error;
  if (std::filesystem::exists(text, error)) return true;
  const auto name = store::parse_model_name(text);
  return name && std::holds_alternative<store::PathName>(*name);
}

ModelFile file_of(const store::StoredModel& model) { return {model.parts.front(), model.names.front()}; }

}  // namespace

Result<store::Store> open_store(const LinkFlags& link) {
  store::StoreOptions options { .folder = TRY(model_folder(link)) };
  options.hub.http.user_agent = std::format("baton/{}", version());
  return store::Store(std::move(options));
}

Result<store::Store> open_store() {
  LinkFlags link;
  if (const char* home = std::getenv("BATON_HOME"); home != nullptr) link.home = home;
  return open_store(link);
}

Result<std::shared_ptr<const store::Peers>> find_peers(const LinkFlags& link) {
  auto peers = std::make_shared<store::Peers>();
  const std::filesystem::path path = TRY(link.folder());
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return peers;
  const cluster::Folder folder = TRY(cluster::Folder::open(path));
  const auto members = std::make_shared<ClusterPeers>(TRY(ClusterPeers::read(folder)));
  for (const plan::NodeRef& node : members->nodes()) {
    peers->nodes.push_back(
        {node.name, {TRY(net::Endpoint::parse(node.address)), TRY(net::Fingerprint::parse(node.fingerprint))}});
  }
  peers->transport = [members, identity = folder.identity(), emulation = TRY(link.link_emulation())](
                         net::EventLoop& loop) { return members->transport(loop, identity, emulation); };
  return peers;
}

Result<ModelFile> find_model(const std::string& text) {
  if (is_path(text)) return ModelFile{text, ""};
  return file_of(TRY(TRY(open_store()).find(text)));
}

Result<ModelFile> obtain_model(const std::string& text, const LinkFlags& link) {
  if (is_path(text)) return ModelFile{text, ""};
  return file_of(TRY(pull_model(text, link, MemoryOf::kThisMachine, {})));
}

Result<store::PullOptions> pull_options(const LinkFlags& link, MemoryOf memory) {
  store::PullOptions options;
  options.memory_bytes = memory == MemoryOf::kCluster ? memory_of_cluster_bytes(link) : memory_here_bytes();
  options.peers = TRY(find_peers(link));
  return options;
}

Result<store::StoredModel> pull_model(const std::string& text, const LinkFlags& link, MemoryOf memory,
                                      const PullSource& source) {
  const store::Store store = TRY(open_store(link));
  // What is here needs no word about it.
  if (source.member.empty()) {
    auto here = store.find(text);
    if (here || here.error().code != ErrorCode::kNotFound) return here;
  }
  std::stop_source stop;
  const SignalWatch signals([&stop] { stop.request_stop(); });
  store::PullOptions options = TRY(pull_options(link, memory));
  options.from = source.from;
  options.member = source.member;
  options.stop = stop.get_token();
  PullPrinter printer(text);
  options.on_progress = [&printer](const store::PullProgress& progress) { printer.show(progress); };
  auto pulled = store.pull(text, options);
  printer.end();
  if (!pulled && pulled.error().code == ErrorCode::kCancelled) {
    return fail(ErrorCode::kCancelled, "interrupted: what has come stays, and the same command goes on from there");
  }
  return pulled;
}

}  // namespace baton::cli
