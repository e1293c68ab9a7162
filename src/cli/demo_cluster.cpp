#include "cli/demo_cluster.h"

#include <glaze/glaze.hpp>

#include <format>

#include "cli/demo_scale.h"
#include "engine/model.h"

namespace baton::cli {

namespace {

constexpr auto kRunTimeout = std::chrono::seconds(120);
constexpr auto kStartTimeout = std::chrono::seconds(60);
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
  TRY(cluster.add_machine("spark", scaled_device(kSpark, reference, scale), link_gbit));
  TRY(cluster.add_machine("spark2", scaled_device(kSpark, reference, scale), link_gbit));
  TRY(cluster.add_machine("m3ultra", scaled_device(kM3Ultra, reference, scale), link_gbit));
  TRY(cluster.start_node(Machine::kSpark));
  TRY(cluster.start_node(Machine::kSecondSpark));
  return cluster;
}

Result<void> DemoCluster::add_machine(std::string name, const engine::EmulatedDevice& device, double link_gbit) {
  const std::string home = (folder_ / name).string();
  auto id = TRY(ChildProcess::start({program_, "id", "--home", home}));
  std::string fingerprint = TRY(id.read_line(now() + kStartTimeout));
  std::vector<std::string> flags = {"--home",           home,
                                    "--device",         "CPU",
                                    "--threads",        "1",
                                    "--chunk",          std::to_string(kScaleWorkload.chunk_tokens),
                                    "--emulate-tflops", std::format("{}", device.teraflops),
                                    "--emulate-gbps",   std::format("{}", device.gigabytes_per_second),
                                    "--emulate-link",   std::format("{:.9f}", link_gbit)};
  machines_.push_back({std::move(name), std::move(fingerprint), std::move(flags), {}});
  return {};
}

Result<void> DemoCluster::start_node(Machine machine) {
  Setup& here = machines_[static_cast<std::size_t>(machine)];
  std::vector<std::string> argv = {program_, "node", model_, "--quiet", "--listen", "127.0.0.1:0"};
  argv.insert(argv.end(), here.flags.begin(), here.flags.end());
  for (const Setup& trusted : machines_) argv.insert(argv.end(), {"--trust", trusted.fingerprint});
  nodes_.push_back(TRY(ChildProcess::start(argv)));
  here.address = TRY(nodes_.back().read_line(now() + kStartTimeout));
  return {};
}

std::string DemoCluster::peer(Machine spark) const {
  return std::format("{}={}", setup(spark).name, setup(spark).address);
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
