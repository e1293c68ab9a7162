#include "cli/demo_cluster.h"

#include <glaze/glaze.hpp>

#include <algorithm>
#include <format>
#include <thread>

#include "cli/demo_scale.h"
#include "cluster/control.h"
#include "engine/model.h"

namespace baton::cli {

namespace {

constexpr auto kRunTimeout = std::chrono::seconds(120);
constexpr auto kStartTimeout = std::chrono::seconds(60);
constexpr auto kPollInterval = std::chrono::milliseconds(250);
// Room for two of the demo's requests.
constexpr std::uint32_t kNodeContextTokens = 2048;
constexpr glz::opts kKnownParts{.error_on_unknown_keys = false};
// The prompt's tokens: words of the synthetic vocabulary, after its 3 control and 256 byte tokens.
constexpr std::uint32_t kFirstWord = 300;
constexpr std::uint32_t kWords = 200;

std::string demo_prompt() {
  std::string prompt;
  for (std::uint32_t i = 0; i < kScaleWorkload.prompt_tokens; ++i) {
    prompt += std::format("{}{}", i == 0 ? "" : ",", kFirstWord + (i * 2654435761U) % kWords);
  }
  return prompt;
}

}  // namespace

Result<DemoCluster> DemoCluster::set_up(const std::filesystem::path& folder) {
  DemoCluster cluster(folder);
  const std::filesystem::path program = TRY(current_executable());
  cluster.program_ = program.string();
  cluster.model_ = (folder / "model.gguf").string();
  cluster.prompt_ = demo_prompt();
  TRY(model::synthesize(scale_model(), cluster.model_));
  const WorkTotals reference = work_totals(reference_shape(), kReferenceWorkload);
  const WorkTotals scale = work_totals(TRY(engine::Model::open(cluster.model_))->shape(), kScaleWorkload);
  const double link_gbit = scaled_link_gbit(reference, scale);
  cluster.add_machine("spark", scaled_device(kSpark, reference, scale), link_gbit);
  cluster.add_machine("spark2", scaled_device(kSpark, reference, scale), link_gbit);
  cluster.add_machine("m3ultra", scaled_device(kM3Ultra, reference, scale), link_gbit);
  TRY(cluster.start_node(Machine::kM3Ultra));
  for (const Machine spark : {Machine::kSpark, Machine::kSecondSpark}) {
    TRY(cluster.join(spark));
    TRY(cluster.start_node(spark));
  }
  TRY(cluster.wait_until_measured());
  return cluster;
}

void DemoCluster::add_machine(std::string name, const engine::EmulatedDevice& device, double link_gbit) {
  const std::string data = (folder_ / name).string();
  std::vector<std::string> flags = {"--data",           data,
                                    "--device",         "CPU",
                                    "--threads",        "1",
                                    "--chunk",          std::to_string(kScaleWorkload.chunk_tokens),
                                    "--emulate-tflops", std::format("{}", device.teraflops),
                                    "--emulate-gbps",   std::format("{}", device.gigabytes_per_second),
                                    "--emulate-link",   std::format("{:.9f}", link_gbit)};
  machines_.push_back({std::move(name), std::move(flags)});
}

Result<void> DemoCluster::start_node(Machine machine) {
  const Setup& here = setup(machine);
  std::vector<std::string> argv = {program_, "up",          model_,     "--quiet",
                                   "--api",  "127.0.0.1:0", "--listen", "127.0.0.1:0",
                                   "--name", here.name,     "--ctx",    std::to_string(kNodeContextTokens)};
  argv.insert(argv.end(), here.flags.begin(), here.flags.end());
  nodes_.push_back(TRY(ChildProcess::start(argv)));
  // The API's address, then the node's: it listens, and has measured itself.
  const TimePoint deadline = now() + kStartTimeout;
  TRY(nodes_.back().read_line(deadline));
  TRY(nodes_.back().read_line(deadline));
  return {};
}

Result<void> DemoCluster::join(Machine machine) {
  std::string token = TRY(baton(Machine::kM3Ultra, {"token"}));
  token.resize(token.find_last_not_of('\n') + 1);
  const std::string said = TRY(baton(machine, {"join", token, "--name", setup(machine).name}));
  joined_.push_back(said.substr(0, said.find('\n')));
  return {};
}

Result<void> DemoCluster::wait_until_measured() const {
  const TimePoint deadline = now() + kStartTimeout;
  const std::size_t others = machines_.size() - 1;
  while (true) {
    cluster::ControlAnswer seen;
    const std::string told = TRY(baton(Machine::kM3Ultra, {"nodes", "--json"}));
    if (const auto error = glz::read<kKnownParts>(seen, told)) {
      return fail(ErrorCode::kInternal, "'baton nodes' printed what is no list: " + glz::format_error(error, told));
    }
    const auto is_measured = [&](const cluster::NodeReport& node) {
      return node.state.links.size() == others && node.state.rates.flops_per_second > 0;
    };
    if (seen.nodes.size() == machines_.size() && std::ranges::all_of(seen.nodes, is_measured)) return {};
    if (now() > deadline) return fail(ErrorCode::kTimeout, "the demo's nodes have not measured their links in time");
    std::this_thread::sleep_for(kPollInterval);
  }
}

Result<std::string> DemoCluster::baton(Machine on, std::vector<std::string> arguments) const {
  std::vector<std::string> argv = {program_};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  argv.insert(argv.end(), {"--data", (folder_ / setup(on).name).string()});
  auto child = TRY(ChildProcess::start(argv));
  auto finished = TRY(child.finish(now() + kStartTimeout));
  if (finished.status == 0) return std::move(finished.output);
  return fail(ErrorCode::kInternal, std::format("'baton {}' ended with status {}", arguments.front(), finished.status));
}

Result<RunResult> DemoCluster::run(Machine on, const std::vector<std::string>& plan_flags) const {
  std::vector<std::string> argv = {program_, "run",          model_,
                                   "--json", "--ignore-eos", "--tokens",
                                   prompt_,  "-n",           std::to_string(kScaleWorkload.decode_steps + 1)};
  argv.insert(argv.end(), setup(on).flags.begin(), setup(on).flags.end());
  argv.insert(argv.end(), plan_flags.begin(), plan_flags.end());
  auto child = TRY(ChildProcess::start(argv));
  const auto finished = TRY(child.finish(now() + kRunTimeout));
  if (finished.status != 0)
    return fail(ErrorCode::kInternal, std::format("'baton run' ended with status {}", finished.status));
  RunResult result;
  if (const auto error = glz::read_json(result, finished.output)) {
    return fail(ErrorCode::kInternal,
                "'baton run' printed what is no result: " + glz::format_error(error, finished.output));
  }
  return result;
}

}  // namespace baton::cli
