#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <cstdio>
#include <filesystem>
#include <format>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/plan_machines.h"
#include "cli/plan_report.h"
#include "engine/model.h"
#include "plan/device_profiles.h"
#include "plan/model_shapes.h"
#include "plan/threshold.h"

namespace baton::cli {

struct ThresholdRow {
  std::string link;
  std::string codec;
  std::optional<std::uint32_t> hidden_tokens;  // null: none up to 131,072
  std::optional<std::uint32_t> pays_tokens;
};

struct ThresholdReport {
  std::string model;
  std::string reader;
  std::string decoder;
  std::uint32_t chunk_tokens = 0;
  std::vector<ThresholdRow> thresholds;
};

namespace {

struct PlanCommandFlags {
  std::string model_file;
  std::string model_name;
  MachineFlags machines;
  std::uint32_t prompt_tokens = 8192;
  std::uint32_t output_tokens = 32;
  std::vector<std::string> codecs = {"f16", "q8_0"};
  std::vector<std::uint32_t> chunk_tokens = {512, 1024, 2048, 4096};
  bool threshold = false;
  bool list = false;
  OutputFormat format = OutputFormat::kText;
};

struct Subject {
  std::string name;
  model::ModelShape shape;
};

Result<Subject> subject_of(const PlanCommandFlags& flags) {
  if (flags.model_file.empty() && flags.model_name.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "which model? Give a GGUF file, or --model with a name of 'baton plan --list'");
  }
  if (!flags.model_name.empty()) {
    model::ModelShape shape = TRY(plan::find_model_shape(flags.model_name));
    return Subject{flags.model_name, std::move(shape)};
  }
  const auto model = TRY(engine::Model::open(flags.model_file));
  return Subject{std::filesystem::path(flags.model_file).filename().string(), model->shape()};
}

// Where it is known how long the texts were that the model learnt from.
void note_context(const Subject& subject, std::uint32_t prompt_tokens) {
  const std::uint32_t trained_tokens = subject.shape.trained_context_tokens;
  if (trained_tokens == 0 || prompt_tokens <= trained_tokens) return;
  std::fprintf(stderr, "baton: %s was made for %s tokens: of a prompt of %s it would make nonsense\n",
               subject.name.c_str(), grouped(trained_tokens).c_str(), grouped(prompt_tokens).c_str());
}

Result<plan::Request> request_of(const PlanCommandFlags& flags) {
  plan::Request request{.prompt_tokens = flags.prompt_tokens,
                        .output_tokens = static_cast<double>(flags.output_tokens),
                        .codecs = {},
                        .chunk_tokens = flags.chunk_tokens};
  for (const std::string& name : flags.codecs) {
    const auto codec = plan::find_codec(name);
    if (!codec) return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not one of f16, q8_0, q4_0", name));
    request.codecs.push_back(*codec);
  }
  return request;
}

Result<void> print_list() {
  std::string text = "Devices (peak TFLOPS and GB/s, times the part that is reached):\n";
  for (const plan::DeviceProfile& device : plan::device_profiles()) {
    text += std::format("  {:<11} {}\n{:14}{:.3g} TFLOPS x {:.2f}, {:.4g} GB/s x {:.2f}, {:.0f} GB x {:.2f}\n",
                        device.name, device.title, "", device.peak_teraflops, device.compute_efficiency,
                        device.peak_gigabytes_per_second, device.memory_efficiency, device.memory_gigabytes,
                        device.usable_memory);
    text += std::format("{0:14}peak: {1}\n{0:14}reached: {2}\n{0:14}memory: {3}\n", "", device.peak_source,
                        device.efficiency_source, device.memory_source);
  }
  text += "\nModels, each followed by the type of its weights:";
  for (const std::string_view type : plan::published_types()) text += std::format(" -{}", type);
  text += "\n";
  for (const plan::PublishedModel& model : plan::published_models()) {
    text += std::format("  {:<14} {}\n", model.name, model.source);
  }
  text += "\nLinks, or GBIT[:LATENCY_MS]:\n";
  for (const plan::LinkProfile& link : plan::link_profiles()) {
    text += std::format("  {:<8} {:.3f} GB/s, {:.1f} ms: {}\n", link.name, link.bytes_per_second / 1e9,
                        link.latency_s * 1e3, link.source);
  }
  return print(text);
}

std::string tokens_text(std::optional<std::uint32_t> tokens) { return tokens ? grouped(*tokens) : "never"; }

Result<void> print_thresholds(const PlanCommandFlags& flags, bool link_given) {
  const Subject subject = TRY(subject_of(flags));
  plan::Cluster cluster = TRY(make_cluster(flags.machines, flags.model_file));
  const auto decoder = static_cast<plan::DeviceIndex>(cluster.devices.size() - 1);
  if (decoder == 0)
    return fail(ErrorCode::kInvalidArgument, "--threshold needs two --devices: who reads and who writes");
  const plan::Request request = TRY(request_of(flags));
  ThresholdReport report{
      subject.name, cluster.devices.front().name, cluster.devices[decoder].name, flags.chunk_tokens.front(), {}};
  std::vector<std::string> links = {"1gbe", "2.5gbe", "5gbe", "10gbe", "25gbe"};
  if (link_given) links = {flags.machines.link};
  for (const std::string& name : links) {
    const plan::LinkProfile link = TRY(plan::find_link_profile(name));
    plan::connect_all(cluster, link.bytes_per_second, link.latency_s);
    for (const plan::WireCodec codec : request.codecs) {
      const plan::Threshold found =
          TRY(plan::find_threshold(cluster, subject.shape, request, 0, decoder, codec, report.chunk_tokens));
      report.thresholds.push_back({name, std::string(plan::codec_name(codec)), found.hidden_tokens, found.pays_tokens});
    }
  }
  if (flags.format == OutputFormat::kJson)
    return print(glz::write<glz::opts{.skip_null_members = false}>(report).value_or("{}") + "\n");
  std::string text = std::format(
      "{}: {} reads in chunks of {}, {} writes {} tokens.\n"
      "Shortest prompt from which on, up to {} tokens, the transfer hides behind the prefill, and from which\n"
      "on it is faster than {} alone. Predicted.\n\n"
      "{:<10} {:<6} {:>10} {:>10}\n",
      report.model, report.reader, report.chunk_tokens, report.decoder, flags.output_tokens,
      grouped(plan::kLongestPrompt), report.decoder, "link", "codec", "hides", "pays");
  for (const ThresholdRow& row : report.thresholds) {
    text += std::format("{:<10} {:<6} {:>10} {:>10}\n", row.link, row.codec, tokens_text(row.hidden_tokens),
                        tokens_text(row.pays_tokens));
  }
  return print(text);
}

Result<void> print_plan(const PlanCommandFlags& flags) {
  const Subject subject = TRY(subject_of(flags));
  const plan::Cluster cluster = TRY(make_cluster(flags.machines, flags.model_file));
  const plan::Request request = TRY(request_of(flags));
  note_context(subject, request.prompt_tokens);
  const TimePoint began = now();
  const plan::Choice choice = TRY(plan::choose(cluster, subject.shape, request));
  const double planning_ms = seconds(now() - began) * 1e3;
  PlanReport report = make_report(cluster, choice, subject.shape.layer_count);
  report.model = subject.name;
  report.prompt_tokens = request.prompt_tokens;
  report.output_tokens = request.output_tokens;
  report.planning_ms = planning_ms;
  return print(flags.format == OutputFormat::kJson ? glz::write_json(report).value_or("{}") + "\n"
                                                   : plan_text(report, choice));
}

}  // namespace

void add_plan(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<PlanCommandFlags>();
  CLI::App* command = app.add_subcommand("plan", "Predict how machines would share a request, and which way is best");
  CLI::Option* file = command->add_option("MODEL", flags->model_file, "GGUF file");
  command->add_option("--model", flags->model_name, "In place of a file, a shape such as llama-3.1-8b-f16")
      ->excludes(file);
  command
      ->add_option("--devices", flags->machines.devices,
                   "Machines by profile, such as spark,m3ultra; 'rtx4090+cpu-16' is one with both; 'this' measures "
                   "the one you are at with MODEL")
      ->delimiter(',');
  CLI::Option* link =
      command->add_option("--link", flags->machines.link, "Between any two: 10gbe, or GBIT[:LATENCY_MS]")
          ->capture_default_str();
  command->add_option("--prompt", flags->prompt_tokens, "Tokens to read")
      ->check(CLI::Range(1U, 16U << 20))
      ->capture_default_str();
  command->add_option("--output", flags->output_tokens, "Tokens to write")
      ->check(CLI::Range(1U, 16U << 20))
      ->capture_default_str();
  command->add_option("--codecs", flags->codecs, "Forms in which KV may travel, of f16, q8_0, q4_0")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--chunks", flags->chunk_tokens, "Sizes of chunks to choose from")
      ->delimiter(',')
      ->check(CLI::Range(16U, 1U << 20))
      ->capture_default_str();
  command->add_flag("--threshold", flags->threshold,
                    "From which prompt length on the transfer from the first to the last device hides, and pays");
  command->add_flag("--list", flags->list, "The devices, models and links there are, with their sources");
  add_json_flag(*command, flags->format, "Print one JSON object");
  command->footer(
      "Examples:\n  baton plan --model llama-3.1-8b-f16 --devices spark,m3ultra --link 10gbe\n"
      "  baton plan model.gguf --devices this,spark --prompt 16384");
  command->callback([&chosen, flags, link] {
    chosen = [flags, link]() -> Result<void> {
      if (flags->list) return print_list();
      if (flags->machines.devices.empty()) flags->machines.devices = {std::string(kThisMachine)};
      return flags->threshold ? print_thresholds(*flags, link->count() > 0) : print_plan(*flags);
    };
  });
}

}  // namespace baton::cli
