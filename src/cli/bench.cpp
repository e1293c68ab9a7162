#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <format>
#include <map>
#include <memory>

#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "engine/benchmark.h"
#include "model/kv_rows.h"

namespace baton::cli {

// One line of the report; the JSON's field names.
struct BenchResult {
  std::string model;
  std::string test;
  double tokens_per_second = 0;
  double tokens_per_second_deviation = 0;  // of a single repetition
  std::uint32_t repetitions = 0;
  unsigned threads = 0;
  std::string device;
  bool emulated = false;
};

namespace {

struct BenchFlags {
  std::string model;
  std::vector<std::uint32_t> prompts = {512};
  std::vector<std::uint32_t> generate = {32};
  std::vector<std::uint32_t> depths = {0};
  std::vector<std::uint32_t> batches = {1};
  std::uint32_t repetitions = 5;
  OutputFormat format = OutputFormat::kText;
  DeviceFlags device;
};

std::uint32_t largest(const std::vector<std::uint32_t>& numbers) {
  return numbers.empty() ? 0 : *std::ranges::max_element(numbers);
}

// "tg32", "tg32 @ d4096" as llama-bench writes it, "tg32 x 8" for eight sequences at a time.
std::string name_of(std::string_view kind, const engine::BenchmarkRun& run) {
  std::string name = std::format("{}{}", kind, run.tokens);
  if (run.sequences > 1) name += std::format(" x {}", run.sequences);
  if (run.depth > 0) name += std::format(" @ d{}", run.depth);
  return name;
}

// Cells that the longest run takes, each sequence rounded up as the cache does it.
std::uint32_t context_for(const BenchFlags& flags) {
  const auto cells = [&](std::uint32_t tokens) { return model::block_above(largest(flags.depths) + tokens); };
  return std::max(cells(largest(flags.prompts)), cells(largest(flags.generate)) * largest(flags.batches));
}

// What most of the weights' bytes are: "q4_K".
std::string_view weight_type(const model::GgufFile& file) {
  std::map<model::TensorType, std::uint64_t> bytes;
  for (const model::TensorInfo& tensor : file.tensors()) bytes[tensor.type] += tensor.bytes;
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  return most == bytes.end() ? "?" : model::facts(most->first).name;
}

// What all lines of the table have in common.
std::string heading(const BenchFlags& flags, const engine::Model& model, const engine::Engine& engine) {
  std::uint64_t bytes = 0;
  for (const model::TensorInfo& tensor : model.file().tensors()) bytes += tensor.bytes;
  const unsigned threads = engine.options().threads;
  return std::format("{}: {}, {} layers, {}, mostly {}; {} thread{} on {}{}\n", flags.model, model.shape().architecture,
                     model.shape().layer_count, size_text(bytes), weight_type(model.file()), threads,
                     threads == 1 ? "" : "s", engine.device().name, engine.emulated() ? " (emulated)" : "");
}

// No digits that the deviation makes meaningless.
int decimals_of(const engine::Rate& rate) {
  if (rate.deviation >= 9.5 || rate.mean >= 9999.5) return 0;
  return rate.deviation >= 0.95 || rate.mean >= 999.5 ? 1 : 2;
}

Result<void> bench(const BenchFlags& flags) {
  if (largest(flags.prompts) == 0 && largest(flags.generate) == 0) {
    return fail(ErrorCode::kInvalidArgument, "there is nothing to measure: both -p and -n are 0");
  }
  engine::EngineOptions options = TRY(flags.device.engine_options());
  if (flags.device.context_tokens == 0) options.context_tokens = context_for(flags);
  options.sequences = std::max(1U, largest(flags.batches));
  const auto model = TRY(engine::Model::open(TRY(find_model(flags.model)).path));
  const auto engine = TRY(engine::Engine::create(model, options));
  if (flags.format == OutputFormat::kText) TRY(print(heading(flags, *model, *engine)));
  std::vector<BenchResult> results;
  const auto report = [&](std::string test, const engine::Rate& rate) {
    results.push_back({flags.model, std::move(test), rate.mean, rate.deviation, flags.repetitions,
                       engine->options().threads, engine->device().name, engine->emulated()});
    if (flags.format == OutputFormat::kJson) return Result<void>{};
    const int decimals = decimals_of(rate);
    const std::string deviation = flags.repetitions > 1 ? std::format("± {:<8.{}f} ", rate.deviation, decimals) : "";
    return print(std::format("{:<18} {:>10.{}f} {}tokens/s\n", results.back().test, rate.mean, decimals, deviation));
  };
  for (const std::uint32_t depth : flags.depths) {
    for (const std::uint32_t tokens : flags.prompts) {
      if (tokens == 0) continue;
      const engine::BenchmarkRun run{.tokens = tokens, .depth = depth, .repetitions = flags.repetitions};
      TRY(report(name_of("pp", run), TRY(engine::prompt_tokens_per_second(*engine, run))));
    }
    for (const std::uint32_t tokens : flags.generate) {
      for (const std::uint32_t sequences : flags.batches) {
        if (tokens == 0) continue;
        const engine::BenchmarkRun run{
            .tokens = tokens, .depth = depth, .sequences = sequences, .repetitions = flags.repetitions};
        TRY(report(name_of("tg", run), TRY(engine::generated_tokens_per_second(*engine, run))));
      }
    }
  }
  if (flags.format == OutputFormat::kText) return {};
  return print(glz::write_json(results).value_or("[]") + "\n");
}

}  // namespace

void add_bench(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure prompt and generation speed, as llama-bench does");
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  command->add_option("-p,--prompt", flags->prompts, "Prompt lengths to read, such as 512,2048; 0 for none")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("-n,--generate", flags->generate, "Numbers of tokens to generate; 0 for none")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("-d,--depth", flags->depths, "Tokens that are in the cache before, such as 0,4096,8192")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("-b,--batch", flags->batches, "Sequences to generate at a time, such as 1,2,4,8")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      ->add_option("-r,--repetitions", flags->repetitions,
                   "Runs of each test; the table shows their mean ± standard deviation")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_json_flag(*command, flags->format, "Print a JSON array");
  flags->device.add_to(*command);
  command->footer(
      "Examples:\n"
      "  baton bench model.gguf -p 512,2048 -n 32 -t 2 --json\n"
      "  baton bench model.gguf -p 0 -n 64 -d 0,4096,8192\n"
      "  baton bench model.gguf -p 0 -n 64 -d 512 -b 1,2,4,8");
  command->callback([&chosen, flags] { chosen = [flags] { return bench(*flags); }; });
}

}  // namespace baton::cli
