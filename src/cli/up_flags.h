// What `baton up` is told on the command line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "cli/plan_flags.h"
#include "cli/speculation_flags.h"
#include "cluster/home.h"
#include "node/model_pool.h"
#include "serve/server.h"

namespace CLI {
class App;
}

namespace baton::cli {

// Which models there are, and how long those stay loaded that nobody uses.
struct ModelFlags {
  std::vector<std::string> paths;
  std::string model_name;
  std::string template_name = "default";
  std::string keep_alive;
  std::uint64_t memory_bytes = 0;                   // 0: what the device has free
  std::optional<std::uint64_t> kept_on_disk_bytes;  // nothing: what is on disk stays as it is; 0: it goes

  void add_to(CLI::App& command);
  struct Offer {
    node::KnownModel known;
    std::unique_ptr<const serve::ServedModel> served;
  };
  // All of them, pulled where they are missing, with their words and templates but without their weights, in the order
  // in which they were named.
  Result<std::vector<Offer>> open(const LinkFlags& link) const;
  // The same for one that lies here; without a name it is called as its file is.
  Result<Offer> offer(const std::filesystem::path& path, const std::string& name) const;
  // Where kept texts go that need room in memory; null: nowhere.
  Result<std::shared_ptr<node::KeptFolder>> kept_folder(net::EventLoop& loop,
                                                        const std::filesystem::path& folder) const;
};

struct UpClusterFlags {
  std::string listen = "0.0.0.0:8771";
  std::vector<std::string> advertise;
  std::string node_name;
  std::string cluster = "home";
  std::int64_t certificate_life_s = 24 * 3600;
  std::string profile;   // in place of measuring
  bool measure = false;  // also what was measured before
  bool no_discovery = false;

  void add_to(CLI::App& command);
  Result<cluster::MembershipOptions> membership_options(const LinkFlags& link) const;
  cluster::NewCluster new_cluster() const;
  cluster::LocalNetwork local_network() const {
    return no_discovery ? cluster::LocalNetwork::kLeftAlone : cluster::LocalNetwork::kSearched;
  }
};

struct ApiFlags {
  std::string address = "127.0.0.1:8770";
  std::uint16_t ollama_port = 0;
  std::vector<std::string> origins;
  std::string key_file;
  std::size_t parallel = 8;
  std::size_t queue = 64;
  std::uint32_t default_new_tokens = 2048;
  bool deterministic = false;
  bool models_by_every_key = false;

  void add_to(CLI::App& command);
  // All but the cluster.
  Result<serve::ServerOptions> server_options() const;
};

struct UpFlags {
  bool quiet = false;
  ModelFlags models;
  ApiFlags api;
  SpeculationFlags guessing;
  UpClusterFlags cluster;
  PlanFlags plan;
  DeviceFlags device;
  LinkFlags link;

  void add_to(CLI::App& command);
  // What all requests of a model share.
  Result<node::RequestOptions> request_options(plan::Plan plan) const;
  Result<node::PoolOptions> pool_options(const std::filesystem::path& folder) const;
};

}  // namespace baton::cli
