#include <unistd.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <format>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/process.h"
#include "base/random.h"
#include "cli/command.h"
#include "cli/demo_scale.h"
#include "cli/run_result.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "engine/model.h"

namespace baton::cli {

struct DemoRow {
  std::string name;
  double ttft_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
  double total_s = 0;
  double speedup = 0;              // against m3ultra
  double speedup_best_single = 0;  // against spark, the faster of the two alone
};

struct DemoResult {
  bool emulated = true;
  bool valid = true;
  std::vector<std::string> invalid_because;
  std::vector<DemoRow> rows;
  double overlap = 0;
  bool identical = false;
};

namespace {

namespace fs = std::filesystem;

constexpr auto kRowTimeout = std::chrono::seconds(120);
constexpr auto kStartTimeout = std::chrono::seconds(60);
constexpr double kPhaseTolerance = 0.02;
constexpr int kOverlapRuns = 3;
// The prompt's tokens: words of the synthetic vocabulary, after its 3 control and 256 byte tokens.
constexpr std::uint32_t kFirstWord = 300;
constexpr std::uint32_t kWords = 200;

// A folder that goes away with the demo.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> create() {
    std::array<std::byte, 8> name;
    fill_random(name);
    fs::path path = fs::temp_directory_path() / ("baton-demo-" + to_hex(name));
    std::error_code error;
    if (!fs::create_directory(path, error))
      return fail(ErrorCode::kIo, "cannot create a folder: " + error.message(), path.string());
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() { remove(); }
  void remove() const {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

// How a machine of the demo is started: its key's folder and what it emulates.
struct Machine {
  std::string home;
  std::string fingerprint;
  std::vector<std::string> flags;
};

class Stage {
 public:
  static Result<Stage> set_up();

  Result<RunResult> run(const Machine& machine, const std::vector<std::string>& plan_flags) const;
  void clean_up() const { folder_.remove(); }
  const Machine& spark() const { return machines_[0]; }
  const Machine& m3ultra() const { return machines_[2]; }
  std::string peer(std::size_t node) const {
    return std::format("{}={}", node == 0 ? "spark" : "spark2", addresses_[node]);
  }

 private:
  explicit Stage(TemporaryFolder folder) : folder_(std::move(folder)) {}
  Result<void> make_machine(const std::string& name, const engine::EmulatedDevice& device, double link_gbit);
  Result<void> start_node(const Machine& machine, const std::vector<std::string>& trusted);

  TemporaryFolder folder_;
  std::string program_;
  std::string model_;
  std::string prompt_;
  std::vector<Machine> machines_;
  std::vector<ChildProcess> nodes_;
  std::vector<std::string> addresses_;
};

Result<Stage> Stage::set_up() {
  Stage stage(TRY(TemporaryFolder::create()));
  const fs::path program = TRY(current_executable());
  stage.program_ = program.string();
  stage.model_ = (stage.folder_.path() / "model.gguf").string();
  TRY(model::synthesize(scale_model(), stage.model_));
  const WorkTotals reference = work_totals(reference_shape(), kReferenceWorkload);
  const WorkTotals scale = work_totals(TRY(engine::Model::open(stage.model_))->shape(), kScaleWorkload);
  const double link_gbit = scaled_link_gbit(reference, scale);
  for (std::uint32_t i = 0; i < kScaleWorkload.prompt_tokens; ++i) {
    stage.prompt_ += std::format("{}{}", i == 0 ? "" : ",", kFirstWord + (i * 2654435761U) % kWords);
  }
  TRY(stage.make_machine("spark", scaled_device(kSpark, reference, scale), link_gbit));
  TRY(stage.make_machine("spark2", scaled_device(kSpark, reference, scale), link_gbit));
  TRY(stage.make_machine("m3ultra", scaled_device(kM3Ultra, reference, scale), link_gbit));
  std::vector<std::string> everyone;
  for (const Machine& machine : stage.machines_) everyone.push_back(machine.fingerprint);
  TRY(stage.start_node(stage.machines_[0], everyone));
  TRY(stage.start_node(stage.machines_[1], everyone));
  return stage;
}

Result<void> Stage::make_machine(const std::string& name, const engine::EmulatedDevice& device, double link_gbit) {
  Machine machine;
  machine.home = (folder_.path() / name).string();
  auto id = TRY(ChildProcess::start({program_, "id", "--home", machine.home}));
  machine.fingerprint = TRY(id.read_line(now() + kStartTimeout));
  machine.flags = {"--home",           machine.home,
                   "--threads",        "1",
                   "--chunk",          std::to_string(kScaleWorkload.chunk_tokens),
                   "--emulate-tflops", std::format("{}", device.teraflops),
                   "--emulate-gbps",   std::format("{}", device.gigabytes_per_second),
                   "--emulate-link",   std::format("{:.9f}", link_gbit)};
  machines_.push_back(std::move(machine));
  return {};
}

Result<void> Stage::start_node(const Machine& machine, const std::vector<std::string>& trusted) {
  std::vector<std::string> argv = {program_, "node", model_, "--quiet", "--listen", "127.0.0.1:0"};
  argv.insert(argv.end(), machine.flags.begin(), machine.flags.end());
  for (const std::string& fingerprint : trusted) argv.insert(argv.end(), {"--trust", fingerprint});
  nodes_.push_back(TRY(ChildProcess::start(argv)));
  addresses_.push_back(TRY(nodes_.back().read_line(now() + kStartTimeout)));
  return {};
}

Result<RunResult> Stage::run(const Machine& machine, const std::vector<std::string>& plan_flags) const {
  std::vector<std::string> argv = {program_, "run",          model_,
                                   "--json", "--ignore-eos", "--tokens",
                                   prompt_,  "-n",           std::to_string(kScaleWorkload.decode_steps + 1)};
  argv.insert(argv.end(), machine.flags.begin(), machine.flags.end());
  argv.insert(argv.end(), plan_flags.begin(), plan_flags.end());
  auto child = TRY(ChildProcess::start(argv));
  const auto finished = TRY(child.finish(now() + kRowTimeout));
  if (finished.status != 0)
    return fail(ErrorCode::kInternal, std::format("'baton run' ended with status {}", finished.status));
  RunResult result;
  if (const auto error = glz::read_json(result, finished.output)) {
    return fail(ErrorCode::kInternal,
                "'baton run' printed what is no result: " + glz::format_error(error, finished.output));
  }
  return result;
}

struct RowSpec {
  std::string name;
  bool on_spark = false;
  std::vector<std::string> plan_flags;
  bool exact = true;
  int runs = 1;
  // The published seconds of the rows alone.
  std::optional<double> published_prefill_s = std::nullopt;
  std::optional<double> published_decode_s = std::nullopt;
};

std::vector<RowSpec> row_specs(const Stage& stage) {
  const std::vector<std::string> relay = {"--peer", stage.peer(0),
                                          "--peer", stage.peer(1),
                                          "--plan", "prefill=spark:0-14,spark2:14-28,local:28-32;decode=local:0-32"};
  std::vector<std::string> relay_q8 = relay;
  relay_q8.insert(relay_q8.end(), {"--codec", "q8_0"});
  return {
      {.name = "spark", .on_spark = true, .plan_flags = {}, .published_prefill_s = 1.47, .published_decode_s = 2.87},
      {.name = "m3ultra", .plan_flags = {}, .published_prefill_s = 5.57, .published_decode_s = 0.85},
      {.name = "disaggregated", .plan_flags = {"--peer", stage.peer(0), "--prefill-on", "spark"}, .runs = kOverlapRuns},
      {.name = "joint", .plan_flags = {"--peer", stage.peer(0), "--prefill-on", "spark", "--split", "26"}},
      {.name = "relay", .plan_flags = relay},
      {.name = "relay-q8", .plan_flags = relay_q8, .exact = false},
  };
}

template <typename T>
T median(std::vector<T> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::optional<std::string> phase_off(const std::string& row, std::string_view phase, double measured,
                                     std::optional<double> published) {
  if (!published || std::abs(measured / *published - 1) <= kPhaseTolerance) return std::nullopt;
  return std::format("{} of {} took {:.3f} s, more than 2% away from the published {:.2f} s", phase, row, measured,
                     *published);
}

Result<DemoResult> measure(const Stage& stage, bool quiet) {
  DemoResult demo;
  std::vector<Token> reference_tokens;
  demo.identical = true;
  for (const RowSpec& spec : row_specs(stage)) {
    std::vector<RunResult> runs;
    for (int i = 0; i < spec.runs; ++i)
      runs.push_back(TRY(stage.run(spec.on_spark ? stage.spark() : stage.m3ultra(), spec.plan_flags)));
    std::ranges::sort(runs, {}, [](const RunResult& run) { return run.timings.total_s; });
    const RunResult& result = runs[runs.size() / 2];
    demo.rows.push_back({spec.name, result.timings.first_token_s, result.timings.prefill_s, result.timings.decode_s,
                         result.timings.total_s});
    for (const RunResult& run : runs) {
      if (!run.emulation_valid)
        demo.invalid_because.push_back(spec.name + ": the real work took longer than the emulated device's");
      if (run.recoveries > 0) demo.invalid_because.push_back(spec.name + ": a node failed on the way");
      if (reference_tokens.empty()) reference_tokens = run.tokens;
      if (spec.exact && run.tokens != reference_tokens) demo.identical = false;
    }
    for (const auto& off : {phase_off(spec.name, "prefill", result.timings.prefill_s, spec.published_prefill_s),
                            phase_off(spec.name, "decode", result.timings.decode_s, spec.published_decode_s)}) {
      if (off) demo.invalid_because.push_back(*off);
    }
    if (spec.name == "disaggregated") {
      std::vector<double> overlaps;
      for (const RunResult& run : runs)
        overlaps.push_back(1 - run.timings.exposed_transfer_s / run.transfer.transfer_s);
      demo.overlap = median(std::move(overlaps));
    }
    if (!quiet) {
      const DemoRow& row = demo.rows.back();
      TRY(print(std::format("{:<14} {:>7.3f} {:>9.3f} {:>8.3f} {:>8.3f}", row.name, row.ttft_s, row.prefill_s,
                            row.decode_s, row.total_s)));
      TRY(print(demo.rows.size() < 2 ? "\n" : std::format(" {:>8.2f}x\n", demo.rows[1].total_s / row.total_s)));
    }
  }
  for (DemoRow& row : demo.rows) {
    row.speedup = demo.rows[1].total_s / row.total_s;
    row.speedup_best_single = demo.rows[0].total_s / row.total_s;
  }
  demo.valid = demo.invalid_because.empty();
  return demo;
}

Result<void> demo(bool json) {
  if (!json) {
    TRY(print(
        "A DGX Spark, an M3 Ultra and a second Spark, emulated on this machine by real baton processes over TLS:\n"
        "Llama-3.1-8B F16, 8,192 tokens in, 32 out, over 10GbE, at 1/16 of its width (docs/demo.md).\n\n"
        "emulated       ttft_s prefill_s decode_s  total_s  speedup\n"));
  }
  const Stage stage = TRY(Stage::set_up());
  // The nodes die with this process; the folder would stay.
  const SignalWatch signals([&] {
    stage.clean_up();
    ::_exit(exit_code(ErrorCode::kCancelled));
  });
  const DemoResult result = TRY(measure(stage, json));
  if (json) return print(glz::write_json(result).value_or("{}") + "\n");
  TRY(
      print(std::format("\nspeedup is against m3ultra alone; the texts of all exact rows are {}.\n"
                        "{:.1f}% of the KV transfer of the disaggregated row was hidden behind the prefill.\n",
                        result.identical ? "identical" : "NOT identical", result.overlap * 100)));
  for (const std::string& reason : result.invalid_because) TRY(print("INVALID: " + reason + "\n"));
  return {};
}

}  // namespace

void add_demo(CLI::App& app, Action& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("demo", "Measure what several machines gain, on machines emulated here");
  command->add_flag("--json", *json, "Print one JSON object");
  command->footer("Example:\n  baton demo --json");
  command->callback([&chosen, json] { chosen = [json] { return demo(*json); }; });
}

}  // namespace baton::cli
