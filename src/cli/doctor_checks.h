// What `baton doctor` finds out: each check looks at one thing and says whether it is well, and what to do if not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cluster/control.h"
#include "engine/device.h"
#include "store/stored_model.h"

namespace baton::cli {

enum class Verdict { kOk, kWarning, kProblem };
std::string_view verdict_name(Verdict verdict);

struct Finding {
  std::string check;  // what was looked at, in a word or two: "backend"
  Verdict verdict = Verdict::kOk;
  std::string message;
  std::string advice = {};  // what to do; empty where all is well
};
using Findings = std::vector<Finding>;

// A network interface that is up, as Linux tells.
struct Interface {
  enum class Kind { kCable, kWifi, kVirtual };
  std::string name;
  Kind kind = Kind::kCable;
  bool has_link = false;
  std::optional<std::uint64_t> bits_per_second = {};  // negotiated
  bool half_duplex = false;
};

// From sys/class/net below `root`; empty on a system that has none. Loopback is left out.
std::vector<Interface> read_interfaces(const std::filesystem::path& root = "/");

// Which interface leads to another node.
struct Route {
  std::string node;
  std::string interface_name;
};

// Whether the machine's graphics processors, as its PCI bus lists them below `root`, are among what ggml computes on.
Findings check_backend(const std::vector<engine::DeviceInfo>& devices, const std::filesystem::path& root = "/");
Findings check_interfaces(const std::vector<Interface>& interfaces, const std::vector<Route>& routes);
// Whether Avahi, which announces nodes on the local network, runs: its socket below `root`.
Findings check_discovery(const std::filesystem::path& root = "/");
// The models of the store, and those that nodes serve, against the memory that there is.
Findings check_memory(const std::vector<store::StoredModel>& models, const std::vector<engine::DeviceInfo>& devices);
Findings check_model_folder(const std::filesystem::path& folder);
// What lies in a data folder of earlier conversations (baton up --keep-on-disk); nothing is said where there is none.
Findings check_kept_texts(const std::filesystem::path& data_folder);
// Who is not here and why, who runs another version, and links that carry less than their interfaces could.
Findings check_cluster(const cluster::ControlAnswer& answer, const std::string& own_id, const std::string& own_software,
                       const std::vector<Interface>& interfaces, const std::vector<Route>& routes);

}  // namespace baton::cli
