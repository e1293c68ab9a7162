#include <CLI/CLI.hpp>

#include <filesystem>
#include <format>
#include <memory>
#include <stop_token>
#include <vector>

#include "cli/command.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "model/synth.h"

namespace baton::cli {

namespace {

struct SynthFlags {
  std::string out;
  std::string preset;
  std::string type = "q4_0";
  model::SynthOptions shape;
  bool force = false;
  // The shape's options, in the order in which they are told.
  std::vector<std::pair<std::string_view, const CLI::Option*>> told;
};

// "width 64, layers 16 (default), ..."
std::string shape_text(const SynthFlags& flags) {
  std::string text;
  for (const auto& [name, option] : flags.told) {
    const bool given = option->count() > 0;
    const std::string value = given ? option->results().back() : option->get_default_str();
    if (!given && value == "0") continue;  // what nobody asked for and is not there
    text += std::format("{}{} {}{}", text.empty() ? "" : ", ", name, value, given ? "" : " (default)");
  }
  return text;
}

Result<void> synth(const SynthFlags& flags) {
  const auto type = model::find_tensor_type(flags.type);
  if (!type) return fail(ErrorCode::kInvalidArgument, "unknown tensor type '" + flags.type + "'");
  model::SynthOptions options = flags.shape;
  options.type = type->type;
  std::error_code unknown;
  if (!flags.force && std::filesystem::exists(flags.out, unknown)) {
    return fail(ErrorCode::kInvalidArgument, "exists already; --force replaces it", flags.out);
  }
  std::stop_source stop;
  const SignalWatch signals([&stop] { stop.request_stop(); });
  TRY(model::synthesize(options, flags.out, stop.get_token()));
  const auto bytes = std::filesystem::file_size(flags.out, unknown);
  remark(std::format("{}: {}: {}\n", flags.out, unknown ? "written" : size_text(bytes), shape_text(flags)));
  return {};
}

}  // namespace

void add_synth(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command = app.add_subcommand("synth", "Write a random model that costs what a real one costs");
  command->add_option("OUT", flags->out, "GGUF file to write")->required();
  auto* preset = command->add_option("--preset", flags->preset, "A known shape: 1.1b (the default)");
  preset->check(CLI::IsMember({"1.1b"}));
  model::SynthOptions& shape = flags->shape;
  const auto add = [&](const std::string& flag, auto& value, std::string_view name, const std::string& description) {
    flags->told.emplace_back(name, command->add_option(flag, value, description)->capture_default_str());
  };
  add("--embd", shape.embd, "width", "Embedding width");
  add("--layers", shape.layers, "layers", "Layers");
  add("--heads", shape.heads, "heads", "Attention heads");
  add("--kv-heads", shape.kv_heads, "KV heads", "Key and value heads");
  add("--ff", shape.ff, "feed-forward width", "Feed-forward width");
  add("--experts", shape.experts, "experts", "Experts in every layer (with --experts-used); 0: a dense model");
  add("--experts-used", shape.experts_per_token, "of them used", "Experts that a token passes through");
  add("--vocab", shape.vocab, "vocabulary", "Tokens in the vocabulary");
  add("--type", flags->type, "type", "Type of the matrices: f16, q8_0, q4_0, q4_k, ...");
  add("--seed", shape.seed, "seed", "The same seed gives the same file");
  command->add_flag("--force", flags->force, "Replace a file that is there");
  command->footer(
      "Examples:\n  baton synth model.gguf --preset 1.1b --type q4_0\n"
      "  baton synth small.gguf --embd 256 --layers 4 --heads 8 --kv-heads 2 --ff 896 --vocab 1000 --type f16");
  command->callback([&chosen, flags] { chosen = [flags] { return synth(*flags); }; });
}

}  // namespace baton::cli
