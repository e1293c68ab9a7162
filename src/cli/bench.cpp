#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/options.h"
#include "engine/benchmark.h"

namespace baton::cli {

// One line of the report; the JSON's field names.
struct BenchResult {
  std::string test;
  double tokens_per_second = 0;
  unsigned threads = 0;
  std::string device;
  bool emulated = false;
};

namespace {

struct BenchFlags {
  std::string model;
  std::vector<std::uint32_t> prompts = {512};
  std::vector<std::uint32_t> generate = {32};
  std::uint32_t repetitions = 5;
  OutputFormat format = OutputFormat::kText;
  DeviceFlags device;
};

Result<void> bench(const BenchFlags& flags) {
  engine::EngineOptions options = TRY(flags.device.engine_options());
  if (flags.device.context_tokens == 0) {
    std::uint32_t longest = 0;
    for (const std::uint32_t tokens : flags.prompts) longest = std::max(longest, tokens);
    for (const std::uint32_t tokens : flags.generate) longest = std::max(longest, tokens);
    options.context_tokens = longest;
  }
  options.sequences = 1;
  const auto engine = TRY(engine::Engine::create(TRY(engine::Model::open(flags.model)), options));
  std::vector<BenchResult> results;
  const auto report = [&](std::string test, double rate) {
    results.push_back({std::move(test), rate, engine->options().threads, engine->device().name, engine->emulated()});
    if (flags.format == OutputFormat::kJson) return Result<void>{};
    const BenchResult& last = results.back();
    return print(std::format("{:<8} {:>10.2f} tokens/s  {} threads on {}{}\n", last.test, rate, last.threads,
                             last.device, last.emulated ? " (emulated)" : ""));
  };
  for (const std::uint32_t tokens : flags.prompts) {
    if (tokens == 0) continue;
    const double rate = TRY(engine::prompt_tokens_per_second(*engine, tokens, flags.repetitions));
    TRY(report(std::format("pp{}", tokens), rate));
  }
  for (const std::uint32_t tokens : flags.generate) {
    if (tokens == 0) continue;
    const double rate = TRY(engine::generated_tokens_per_second(*engine, tokens, flags.repetitions));
    TRY(report(std::format("tg{}", tokens), rate));
  }
  if (flags.format == OutputFormat::kText) return {};
  return print(glz::write_json(results).value_or("[]") + "\n");
}

}  // namespace

void add_bench(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure prompt and generation speed, as llama-bench does");
  command->add_option("MODEL", flags->model, "GGUF file")->required();
  command->add_option("-p,--prompt", flags->prompts, "Prompt lengths to read, such as 512,2048; 0 for none")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("-n,--generate", flags->generate, "Numbers of tokens to generate; 0 for none")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("-r,--repetitions", flags->repetitions, "Runs to average")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_json_flag(*command, flags->format, "Print a JSON array");
  flags->device.add_to(*command);
  command->footer("Example:\n  baton bench model.gguf -p 512,2048 -n 32 -t 2 --json");
  command->callback([&chosen, flags] { chosen = [flags] { return bench(*flags); }; });
}

}  // namespace baton::cli
