// The machines of `baton demo`: real baton processes on this one, each with a key and a data folder of its own, slowed
// down to the device that it stands for, and joined to one cluster as machines at home are: by token.
#pragma once

#include <string>
#include <vector>

#include "base/process.h"
#include "base/result.h"
#include "cli/run_result.h"
#include "engine/emulation.h"

namespace baton::cli {

// The scale model, a node for each of the machines, and what it takes to start requests on any of them. Destroyed, it
// ends the nodes; its files stay in the folder, which must outlive it.
class DemoCluster {
 public:
  // Begins the cluster on the M3 Ultra, lets the Sparks join, and waits until every node has measured itself and what
  // its links carry. kTimeout where that takes minutes.
  static Result<DemoCluster> set_up(const std::filesystem::path& folder);

  enum class Machine { kSpark, kSecondSpark, kM3Ultra };

  // Runs the demo's request as `baton run` on this machine. kInternal where the command fails or prints no result,
  // kTimeout where it takes minutes.
  Result<RunResult> run(Machine on, const std::vector<std::string>& plan_flags) const;

  // How the others found the first node, as 'baton join' says it; one line each.
  const std::vector<std::string>& joined() const { return joined_; }

 private:
  // How a machine is started: its folder and what it emulates.
  struct Setup {
    std::string name;
    std::vector<std::string> flags;
  };

  explicit DemoCluster(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void add_machine(std::string name, const engine::EmulatedDevice& device, double link_gbit);
  Result<void> start_node(Machine machine);
  Result<void> join(Machine machine);
  Result<void> wait_until_measured() const;
  Result<std::string> baton(Machine on, std::vector<std::string> arguments) const;
  const Setup& setup(Machine machine) const { return machines_[static_cast<std::size_t>(machine)]; }

  std::filesystem::path folder_;
  std::string program_;
  std::string model_;
  std::string prompt_;
  std::vector<Setup> machines_;  // in the order of Machine
  std::vector<std::string> joined_;
  std::vector<ChildProcess> nodes_;
};

}  // namespace baton::cli
