#include "cli/doctor_checks.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <format>
#include <fstream>
#include <set>
#include <system_error>

#include "base/number_text.h"
#include "cli/text_output.h"
#include "node/kept_folder.h"
#include "store/quantisation.h"

namespace baton::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kGigabit = 1'000'000'000;
// A measured link below this part of what its interface negotiated is worth a word. TLS and headers cost less.
constexpr double kFairPart = 0.5;
constexpr std::uint64_t kLittleSpaceBytes = 5'000'000'000;

// The first line of a small file of the kernel's; empty where it cannot be read.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    entries.push_back(entry->path());
  }
  std::ranges::sort(entries);
  return entries;
}

// Makers' numbers as PCI-SIG lists them.
std::string_view maker_of(std::string_view vendor) {
  if (vendor == "0x10de") return "NVIDIA";
  if (vendor == "0x1002") return "AMD";
  if (vendor == "0x8086") return "Intel";
  return {};
}

std::string_view backend_for(std::string_view maker) {
  if (maker == "NVIDIA") return "CUDA or Vulkan";
  if (maker == "AMD") return "HIP or Vulkan";
  return "SYCL or Vulkan";
}

std::set<std::string_view> graphics_makers(const fs::path& root) {
  std::set<std::string_view> makers;
  for (const fs::path& device : entries_of(root / "sys/bus/pci/devices")) {
    // Display controllers are class 0x03, processing accelerators 0x12.
    const std::string kind = first_line(device / "class");
    if (!kind.starts_with("0x03") && !kind.starts_with("0x12")) continue;
    if (const auto maker = maker_of(first_line(device / "vendor")); !maker.empty()) makers.insert(maker);
  }
  return makers;
}

std::string rate_text(std::uint64_t bits_per_second) {
  const double gigabits = static_cast<double>(bits_per_second) / kGigabit;
  return gigabits >= 1 ? std::format("{:g} Gbit/s", gigabits) : std::format("{:g} Mbit/s", gigabits * 1000);
}

// As the engine chooses: the first graphics processor, else the first that shares the system's memory, else the CPU.
const engine::DeviceInfo& default_device(const std::vector<engine::DeviceInfo>& devices) {
  using enum engine::DeviceKind;
  for (const engine::DeviceKind kind : {kGpu, kIntegratedGpu, kCpu}) {
    const auto found = std::ranges::find(devices, kind, &engine::DeviceInfo::kind);
    if (found != devices.end()) return *found;
  }
  return devices.front();
}

std::uint64_t most_memory_bytes(const std::vector<engine::DeviceInfo>& devices) {
  std::uint64_t most = 0;
  for (const engine::DeviceInfo& device : devices) most = std::max(most, device.memory_total_bytes);
  return most;
}

const Interface* find_interface(const std::vector<Interface>& interfaces, std::string_view name) {
  const auto found = std::ranges::find(interfaces, name, &Interface::name);
  return found == interfaces.end() ? nullptr : &*found;
}

const Route* find_route(const std::vector<Route>& routes, std::string_view node) {
  const auto found = std::ranges::find(routes, node, &Route::node);
  return found == routes.end() ? nullptr : &*found;
}

}  // namespace

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk: return "ok";
    case Verdict::kWarning: return "warning";
    case Verdict::kProblem: return "problem";
  }
  return "";
}

std::vector<Interface> read_interfaces(const fs::path& root) {
  std::vector<Interface> interfaces;
  for (const fs::path& folder : entries_of(root / "sys/class/net")) {
    const std::string name = folder.filename().string();
    std::error_code error;
    if (name == "lo" || first_line(folder / "operstate") == "down") continue;
    Interface interface{.name = name};
    if (fs::exists(folder / "wireless", error) || fs::exists(folder / "phy80211", error)) {
      interface.kind = Interface::Kind::kWifi;
    } else if (!fs::exists(folder / "device", error)) {
      interface.kind = Interface::Kind::kVirtual;
    }
    interface.has_link = first_line(folder / "carrier") == "1";
    interface.half_duplex = first_line(folder / "duplex") == "half";
    const std::string speed = first_line(folder / "speed");
    std::int64_t megabits = 0;
    // -1 where the driver does not know.
    if (std::from_chars(speed.data(), speed.data() + speed.size(), megabits).ec == std::errc() && megabits > 0) {
      interface.bits_per_second = static_cast<std::uint64_t>(megabits) * 1'000'000;
    }
    interfaces.push_back(std::move(interface));
  }
  return interfaces;
}

Findings check_backend(const std::vector<engine::DeviceInfo>& devices, const fs::path& root) {
  if (devices.empty()) {
    return {{"backend", Verdict::kProblem, "ggml offers no device at all, not even the processor",
             "install ggml's backends: docs/install.md"}};
  }
  Findings findings;
  bool has_gpu = false;
  std::string list;
  for (const engine::DeviceInfo& device : devices) {
    has_gpu = has_gpu || device.kind == engine::DeviceKind::kGpu || device.kind == engine::DeviceKind::kIntegratedGpu;
    list += std::format("{}{} ({}, {} of {} free)", list.empty() ? "" : "; ", device.name, device.description,
                        size_text(device.memory_free_bytes), size_text(device.memory_total_bytes));
  }
  findings.push_back({"backend", Verdict::kOk,
                      std::format("computes on {} unless --device says otherwise; there are: {}",
                                  default_device(devices).name, list)});
  if (has_gpu) return findings;
  for (const std::string_view maker : graphics_makers(root)) {
    findings.push_back(
        {"backend", maker == "Intel" ? Verdict::kOk : Verdict::kWarning,
         std::format("{} graphics are in this machine, but ggml has no backend here that uses them", maker),
         std::format("install ggml with {}: docs/install.md", backend_for(maker))});
  }
  return findings;
}

Findings check_interfaces(const std::vector<Interface>& interfaces, const std::vector<Route>& routes) {
  Findings findings;
  const Interface* cable = nullptr;
  for (const Interface& interface : interfaces) {
    const bool is_cable = interface.kind == Interface::Kind::kCable && interface.has_link;
    if (is_cable && cable == nullptr) cable = &interface;
    if (!interface.bits_per_second || interface.kind == Interface::Kind::kVirtual || !interface.has_link) continue;
    const std::string text =
        std::format("{} has negotiated {}{}", interface.name, rate_text(*interface.bits_per_second),
                    interface.half_duplex ? ", half duplex" : "");
    if (interface.half_duplex) {
      findings.push_back({"link speed", Verdict::kProblem, text, "one end is set by hand: let both negotiate"});
    } else if (is_cable && *interface.bits_per_second < kGigabit) {
      findings.push_back({"link speed", Verdict::kWarning, text,
                          "almost every port and cable can do 1 Gbit/s: try another cable (all eight wires), or port"});
    } else {
      findings.push_back({"link speed", Verdict::kOk, text});
    }
  }
  for (const Route& route : routes) {
    const Interface* interface = find_interface(interfaces, route.interface_name);
    if (interface == nullptr || interface->kind != Interface::Kind::kWifi) continue;
    const std::string text = std::format("traffic to {} goes by Wi-Fi ({})", route.node, interface->name);
    if (cable != nullptr) {
      findings.push_back({"Wi-Fi", Verdict::kWarning, std::format("{}, though {} is plugged in", text, cable->name),
                          std::format("give {} the lower metric, or start the other node with --advertise and its "
                                      "cable's address",
                                      cable->name)});
    } else {
      findings.push_back({"Wi-Fi", Verdict::kWarning, text,
                          "a cable carries several times as much: a KV cache of long prompts is gigabytes"});
    }
  }
  return findings;
}

Findings check_discovery(const fs::path& root) {
  std::error_code error;
  for (const char* place : {"run/avahi-daemon/socket", "var/run/avahi-daemon/socket"}) {
    if (fs::exists(root / place, error)) return {{"discovery", Verdict::kOk, "Avahi runs"}};
  }
  return {{"discovery", Verdict::kWarning, "Avahi does not run: nodes are not found by themselves on this network",
           "install and start it (apt install avahi-daemon), or join with the addresses in a token, which needs no "
           "discovery"}};
}

Findings check_memory(const std::vector<store::StoredModel>& models, const std::vector<engine::DeviceInfo>& devices) {
  const std::uint64_t memory = most_memory_bytes(devices);
  Findings findings;
  for (const store::StoredModel& model : models) {
    if (store::memory_needed_bytes(model.bytes) <= memory) continue;
    findings.push_back(
        {"memory", Verdict::kWarning,
         std::format("{} ({}) does not fit: this machine's largest device has {}", model.names.front(),
                     size_text(model.bytes), size_text(memory)),
         "pull a smaller quantisation, or let several nodes hold its layers (docs/planning.md, pooled)"});
  }
  if (findings.empty()) {
    findings.push_back({"memory", Verdict::kOk,
                        models.empty() ? std::format("the largest device has {}", size_text(memory))
                                       : std::format("every model here fits into {}", size_text(memory))});
  }
  return findings;
}

Findings check_kept_texts(const fs::path& data_folder) {
  const fs::path folder = node::KeptFolder::path_in(data_folder);
  const std::uint64_t bytes = node::KeptFolder::bytes_in(folder);
  if (bytes == 0) return {};
  return {{"kept texts", Verdict::kOk,
           std::format("{} of earlier conversations in {}", size_text(bytes), folder.string())}};
}

Findings check_model_folder(const fs::path& folder) {
  Findings findings;
  fs::path existing = folder;
  std::error_code error;
  while (!existing.empty() && !fs::exists(existing, error) && existing != existing.root_path()) {
    existing = existing.parent_path();
  }
  if (const auto space = fs::space(existing, error); !error) {
    const std::string text = std::format("{} has {} free", folder.string(), size_text(space.available));
    if (space.available < kLittleSpaceBytes) {
      findings.push_back(
          {"disk", Verdict::kWarning, text, "remove models with 'baton rm', or name another folder with BATON_MODELS"});
    } else {
      findings.push_back({"disk", Verdict::kOk, text});
    }
  }
  std::uint64_t left_over = 0;
  for (fs::recursive_directory_iterator entry(folder / "partial", error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) left_over += entry->file_size(ignored);
  }
  if (left_over > 0) {
    findings.push_back({"disk", Verdict::kWarning,
                        std::format("{} are left of pulls that did not end", size_text(left_over)),
                        std::format("pull again to go on, or delete {}", (folder / "partial").string())});
  }
  return findings;
}

Findings check_cluster(const cluster::ControlAnswer& answer, const std::string& own_id, const std::string& own_software,
                       const std::vector<Interface>& interfaces, const std::vector<Route>& routes) {
  Findings findings;
  const cluster::NodeState* own = nullptr;
  for (const cluster::NodeReport& node : answer.nodes) {
    if (node.id == own_id) own = &node.state;
  }
  for (const cluster::NodeReport& node : answer.nodes) {
    if (node.id == own_id) continue;
    if (node.status == "incompatible") {
      findings.push_back({"version", Verdict::kProblem,
                          std::format("{} speaks another version: {}", node.name, node.problem),
                          "run the same baton on both"});
      continue;
    }
    if (node.status != "alive") {
      findings.push_back(
          {"peer", Verdict::kWarning,
           std::format("{} is {}{}{}", node.name, node.status, node.problem.empty() ? "" : ": ", node.problem),
           "is it switched on and 'baton up' running? If so, open its port (8771) in its firewall, or "
           "give its address with --advertise there"});
      continue;
    }
    if (!node.software.empty() && node.software != own_software) {
      findings.push_back({"version", Verdict::kWarning,
                          std::format("{} runs {}, this machine {}", node.name, node.software, own_software),
                          "run the same baton on both: answers of unlike versions may differ"});
    }
    std::string text = std::format("{} is here, {:.1f} ms away", node.name, node.round_trip_ms);
    Finding finding{"peer", Verdict::kOk, std::move(text)};
    if (own != nullptr) {
      const auto link = std::ranges::find(own->links, node.id, &cluster::LinkState::peer);
      if (link != own->links.end() && link->to_bytes_per_second > 0) {
        const double bits = 8 * std::min(link->to_bytes_per_second, link->from_bytes_per_second);
        finding.message += std::format(", {} Gbit/s measured", number_text(bits / kGigabit));
        const Route* route = find_route(routes, node.name);
        const Interface* interface = route == nullptr ? nullptr : find_interface(interfaces, route->interface_name);
        const bool negotiated =
            interface != nullptr && interface->bits_per_second && interface->kind == Interface::Kind::kCable;
        if (negotiated && bits < kFairPart * static_cast<double>(*interface->bits_per_second)) {
          finding.verdict = Verdict::kWarning;
          finding.message +=
              std::format(", though {} has negotiated {}", interface->name, rate_text(*interface->bits_per_second));
          finding.advice = "the other end or a switch between is slower, or busy: look at its ports";
        }
      }
    }
    findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace baton::cli
