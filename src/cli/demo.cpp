#include <unistd.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <cmath>
#include <format>
#include <memory>
#include <optional>
#include <span>

#include "base/temporary_folder.h"
#include "cli/command.h"
#include "cli/demo_cluster.h"
#include "cli/demo_scale.h"
#include "cli/options.h"
#include "cli/signals.h"

namespace baton::cli {

struct DemoRow {
  std::string name;
  double ttft_s = 0;
  double prefill_s = 0;
  double decode_s = 0;
  double total_s = 0;
  double predicted_s = 0;          // total_s by the planner's cost model, at full size and from rates alone
  double speedup = 0;              // against m3ultra
  double speedup_best_single = 0;  // against spark, the faster of the two alone
};

// The same request, without flags: the planner chose the machines, by what they measured of themselves.
struct PlannedRow {
  std::string shape;
  std::string plan;
  double predicted_ttft_s = 0;
  double ttft_s = 0;
  double predicted_s = 0;
  double total_s = 0;
  double speedup = 0;
  double speedup_best_single = 0;
  double planning_ms = 0;
  std::vector<WeighedPlan> weighed;
};

struct DemoResult {
  bool emulated = true;
  bool valid = true;
  std::vector<std::string> invalid_because;
  std::vector<std::string> joined;  // how each node found the cluster
  std::vector<DemoRow> rows;
  PlannedRow planner;
  double overlap = 0;
  bool identical = false;
  std::uint32_t repeated_runs = 0;  // whose emulation this machine had disturbed
};

namespace {

using Machine = DemoCluster::Machine;

constexpr double kPhaseTolerance = 0.02;
// An ordinary machine has other things to do now and then; one that always has is too busy.
constexpr std::uint32_t kAttempts = 3;

struct DemoFlags {
  OutputFormat format = OutputFormat::kText;
  std::uint32_t runs = 3;
};

enum class Exactness { kSameText, kOwnText };

struct RowSpec {
  std::string name;
  Machine machine = Machine::kM3Ultra;
  std::vector<std::string> plan_flags;
  plan::Placement placement;  // the same for the planner, devices in the order of Machine
  Exactness exactness = Exactness::kSameText;
  std::uint32_t runs = 1;
  // The published seconds of the rows alone.
  std::optional<double> published_prefill_s = std::nullopt;
  std::optional<double> published_decode_s = std::nullopt;
};

std::vector<RowSpec> row_specs(const DemoFlags& flags) {
  const std::vector<std::string> alone = {"--plan", "prefill=local:0-32;decode=local:0-32"};
  const std::vector<std::string> relay = {"--plan", "prefill=spark:0-14,spark2:14-28,local:28-32;decode=local:0-32"};
  std::vector<std::string> relay_q8 = relay;
  relay_q8.insert(relay_q8.end(), {"--codec", "q8_0"});
  constexpr LayerRange kAll = {0, 32};
  const auto device = [](Machine machine) { return static_cast<plan::DeviceIndex>(machine); };
  // Prefill stages on the machines in this order, ending at these layers; one machine writes.
  const auto placed = [&](std::vector<Machine> machines, const std::vector<std::uint32_t>& ends, Machine writer,
                          plan::WireCodec codec) {
    plan::Placement placement{.prefill = {}, .decode = {{device(writer), kAll}}, .codecs = {}};
    std::uint32_t begin = 0;
    for (std::size_t index = 0; index < machines.size(); ++index) {
      placement.prefill.push_back({device(machines[index]), {begin, ends[index]}});
      placement.codecs.push_back(codec);
      begin = ends[index];
    }
    placement.chunk_tokens = kReferenceWorkload.chunk_tokens;
    return placement;
  };
  using enum DemoCluster::Machine;
  const auto exact = plan::WireCodec::kF16;
  return {
      {.name = "spark",
       .machine = kSpark,
       .plan_flags = alone,
       .placement = placed({kSpark}, {32}, kSpark, exact),
       .published_prefill_s = 1.47,
       .published_decode_s = 2.87},
      {.name = "m3ultra",
       .plan_flags = alone,
       .placement = placed({kM3Ultra}, {32}, kM3Ultra, exact),
       .published_prefill_s = 5.57,
       .published_decode_s = 0.85},
      {.name = "disaggregated",
       .plan_flags = {"--prefill-on", "spark"},
       .placement = placed({kSpark}, {32}, kM3Ultra, exact),
       .runs = flags.runs},
      {.name = "joint",
       .plan_flags = {"--prefill-on", "spark", "--split", "26"},
       .placement = placed({kSpark, kM3Ultra}, {26, 32}, kM3Ultra, exact)},
      {.name = "relay",
       .plan_flags = relay,
       .placement = placed({kSpark, kSecondSpark, kM3Ultra}, {14, 28, 32}, kM3Ultra, exact)},
      {.name = "relay-q8",
       .plan_flags = relay_q8,
       .placement = placed({kSpark, kSecondSpark, kM3Ultra}, {14, 28, 32}, kM3Ultra, plan::WireCodec::kQ8_0),
       .exactness = Exactness::kOwnText},
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
  return std::format("{} of {} took {:.3f} s, more than {:.0f}% away from the published {:.2f} s", phase, row, measured,
                     kPhaseTolerance * 100, *published);
}

// Why a run says nothing about the emulated machines.
std::vector<std::string> faults_of(const RunResult& run, const RowSpec& spec) {
  std::vector<std::string> faults;
  if (!run.emulation_valid) faults.push_back(spec.name + ": the real work took longer than the emulated device's");
  for (const auto& off : {phase_off(spec.name, "prefill", run.timings.prefill_s, spec.published_prefill_s),
                          phase_off(spec.name, "decode", run.timings.decode_s, spec.published_decode_s)}) {
    if (off) faults.push_back(*off);
  }
  return faults;
}

// A run that was disturbed is made again; if the last attempt was too, the demo says why.
Result<RunResult> run_undisturbed(const DemoCluster& cluster, const RowSpec& spec, DemoResult& demo) {
  for (std::uint32_t attempt = 1;; ++attempt) {
    RunResult run = TRY(cluster.run(spec.machine, spec.plan_flags));
    const std::vector<std::string> faults = faults_of(run, spec);
    if (faults.empty()) return run;
    if (attempt == kAttempts) {
      demo.invalid_because.insert(demo.invalid_because.end(), faults.begin(), faults.end());
      return run;
    }
    ++demo.repeated_runs;
  }
}

// The planner's own choice, after the rows that it is held against.
Result<void> measure_planned(const DemoCluster& cluster, const std::vector<Token>& reference_tokens, DemoResult& demo) {
  const RunResult run = TRY(run_undisturbed(cluster, {.name = "planner", .plan_flags = {}, .placement = {}}, demo));
  const PlannedResult& planned = run.planned;
  if (planned.by != "planner") demo.invalid_because.push_back("planner: nothing was planned: " + planned.problem);
  if (run.recoveries > 0) demo.invalid_because.push_back("planner: a node failed on the way");
  if (run.tokens != reference_tokens) demo.identical = false;
  demo.planner = {.shape = planned.shape,
                  .plan = planned.plan,
                  .predicted_ttft_s = planned.predicted_first_token_s,
                  .ttft_s = run.timings.first_token_s,
                  .predicted_s = planned.predicted_total_s,
                  .total_s = run.timings.total_s,
                  .speedup = demo.rows[1].total_s / run.timings.total_s,
                  .speedup_best_single = demo.rows[0].total_s / run.timings.total_s,
                  .planning_ms = planned.planning_ms,
                  .weighed = planned.weighed};
  return {};
}

// In the columns of README.md.
std::string row_text(const DemoRow& row) {
  return std::format("{:<14} {:>9.3f} s {:>8.3f} s {:>8.3f} s {:>8.3f} s {:>7.2f}x {:>22.2f}x\n", row.name, row.ttft_s,
                     row.prefill_s, row.decode_s, row.total_s, row.speedup, row.speedup_best_single);
}

Result<DemoResult> measure(const DemoCluster& cluster, const DemoFlags& flags) {
  DemoResult demo;
  demo.joined = cluster.joined();
  std::vector<Token> reference_tokens;
  demo.identical = true;
  for (const RowSpec& spec : row_specs(flags)) {
    std::vector<RunResult> runs;
    for (std::uint32_t i = 0; i < spec.runs; ++i) runs.push_back(TRY(run_undisturbed(cluster, spec, demo)));
    std::ranges::sort(runs, {}, [](const RunResult& run) { return run.timings.total_s; });
    const RunResult& result = runs[runs.size() / 2];
    const double predicted_s = TRY(predicted_total_s(spec.placement));
    demo.rows.push_back({spec.name, result.timings.first_token_s, result.timings.prefill_s, result.timings.decode_s,
                         result.timings.total_s, predicted_s});
    for (const RunResult& run : runs) {
      if (run.recoveries > 0) demo.invalid_because.push_back(spec.name + ": a node failed on the way");
      if (reference_tokens.empty()) reference_tokens = run.tokens;
      if (spec.exactness == Exactness::kSameText && run.tokens != reference_tokens) demo.identical = false;
    }
    if (spec.name == "disaggregated") {
      std::vector<double> overlaps;
      for (const RunResult& run : runs)
        overlaps.push_back(run.transfer.transfer_s > 0 ? 1 - run.timings.exposed_transfer_s / run.transfer.transfer_s
                                                       : 0);
      demo.overlap = median(std::move(overlaps));
    }
    // Each as soon as it is there; the first waits for the second, which it is held against.
    if (demo.rows.size() < 2) continue;
    const std::size_t fresh = demo.rows.size() == 2 ? 0 : demo.rows.size() - 1;
    for (DemoRow& row : std::span(demo.rows).subspan(fresh)) {
      row.speedup = demo.rows[1].total_s / row.total_s;
      row.speedup_best_single = demo.rows[0].total_s / row.total_s;
      if (flags.format == OutputFormat::kText) TRY(print(row_text(row)));
    }
  }
  TRY(measure_planned(cluster, reference_tokens, demo));
  demo.valid = demo.invalid_because.empty();
  return demo;
}

Result<void> print_heading() {
  return print(
      "A DGX Spark, an M3 Ultra and a second Spark, emulated on this machine by real baton processes over TLS:\n"
      "Llama-3.1-8B F16, 8,192 tokens in, 32 out, over 10GbE, at 1/16 of its width (docs/demo.md).\n\n");
}

Result<void> print_columns() {
  return print("\nemulated       first token    prefill     decode      total  speedup  against the best alone\n");
}

Result<void> print_conclusion(const DemoResult& result) {
  const PlannedRow& planner = result.planner;
  TRY(
      print(std::format("\nthe planner's own choice, without flags: {}, {}\n"
                        "  {:.3f} s to the first token, {:.3f} s in all, {:.2f}x m3ultra, {:.2f}x the best alone;\n"
                        "  {:.3f} s were predicted, by rates that the nodes measured of themselves\n",
                        planner.shape, planner.plan, planner.ttft_s, planner.total_s, planner.speedup,
                        planner.speedup_best_single, planner.predicted_s)));
  TRY(
      print(std::format("\nspeedup is against m3ultra alone; the texts of all exact rows are {}.\n"
                        "{:.1f}% of the KV transfer of the disaggregated row was hidden behind the prefill.\n",
                        result.identical ? "identical" : "NOT identical", result.overlap * 100)));
  if (result.repeated_runs > 0) {
    TRY(print(std::format("{} of the runs had to be made again: other work on this machine had disturbed them.\n",
                          result.repeated_runs)));
  }
  for (const std::string& reason : result.invalid_because) TRY(print("INVALID: " + reason + "\n"));
  return {};
}

Result<void> demo(const DemoFlags& flags) {
  keep_signals();
  const TemporaryFolder folder = TRY(TemporaryFolder::create("baton-demo"));
  // Files would stay; and who still writes some goes before them.
  const SignalWatch signals([&] {
    ChildProcess::end_all();
    folder.remove();
    ::_exit(exit_code(ErrorCode::kCancelled));
  });
  if (flags.format == OutputFormat::kText) TRY(print_heading());
  const DemoCluster cluster = TRY(DemoCluster::set_up(folder.path()));
  if (flags.format == OutputFormat::kText) {
    for (const std::string& line : cluster.joined()) TRY(print(line + "\n"));
    TRY(print_columns());
  }
  const DemoResult result = TRY(measure(cluster, flags));
  TRY(flags.format == OutputFormat::kJson ? print(glz::write_json(result).value_or("{}") + "\n")
                                          : print_conclusion(result));
  if (!result.identical) {
    return fail(ErrorCode::kInternal, "the texts of the rows with exact codecs differ, and they must not");
  }
  if (!result.valid) {
    return fail(ErrorCode::kNoCapacity,
                std::format("the demo's figures are INVALID ({}): close what else runs on this machine and try again",
                            result.invalid_because.front()));
  }
  return {};
}

}  // namespace

void add_demo(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<DemoFlags>();
  CLI::App* command = app.add_subcommand("demo", "Measure what several machines gain, on machines emulated here");
  command->add_option("--runs", flags->runs, "Runs of the disaggregated row, of which the median counts")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  add_json_flag(*command, flags->format, "Print one JSON object");
  command->footer(
      "Where the machine was too slow or too busy for the emulation it says why, and ends with status 7;\n"
      "where rows that must give the same text do not, with status 1.\n\n"
      "Example:\n  baton demo --json");
  command->callback([&chosen, flags] { chosen = [flags] { return demo(*flags); }; });
}

}  // namespace baton::cli
