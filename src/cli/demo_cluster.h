// The machines of `baton demo`: real baton processes on this one, each with a key of its own, slowed down to the device
// that it stands for.
#pragma once

#include <string>
#include <vector>

#include "base/process.h"
#include "base/result.h"
#include "cli/run_result.h"
#include "engine/emulation.h"

namespace baton::cli {

// The scale model, two nodes that play a Spark each, and what it takes to start requests on a Spark or an M3 Ultra.
// Destroyed, it ends the nodes; its files stay in the folder, which must outlive it.
class DemoCluster {
 public:
  static Result<DemoCluster> set_up(const std::filesystem::path& folder);

  enum class Machine { kSpark, kSecondSpark, kM3Ultra };

  // Runs the demo's request as `baton run` on this machine. kInternal where the command fails or prints no result,
  // kTimeout where it takes minutes.
  Result<RunResult> run(Machine on, const std::vector<std::string>& plan_flags) const;

  // The node of a Spark as --peer takes it, called "spark" or "spark2".
  std::string peer(Machine spark) const;

 private:
  // How a machine is started: its key and what it emulates.
  struct Setup {
    std::string name;
    std::string fingerprint;
    std::vector<std::string> flags;
    std::string address;  // where there is a node: host:port#fingerprint
  };

  explicit DemoCluster(std::filesystem::path folder) : folder_(std::move(folder)) {}
  Result<void> add_machine(std::string name, const engine::EmulatedDevice& device, double link_gbit);
  Result<void> start_node(Machine machine);
  const Setup& setup(Machine machine) const { return machines_[static_cast<std::size_t>(machine)]; }

  std::filesystem::path folder_;
  std::string program_;
  std::string model_;
  std::string prompt_;
  std::vector<Setup> machines_;  // in the order of Machine
  std::vector<ChildProcess> nodes_;
};

}  // namespace baton::cli
