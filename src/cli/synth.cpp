#include <CLI/CLI.hpp>

#include <memory>

#include "cli/command.h"
#include "model/synth.h"

namespace baton::cli {

namespace {

struct SynthFlags {
  std::string out;
  std::string preset;
  std::string type = "q4_0";
  model::SynthOptions shape;
};

Result<void> synth(const SynthFlags& flags) {
  const auto type = model::find_tensor_type(flags.type);
  if (!type) return fail(ErrorCode::kInvalidArgument, "unknown tensor type '" + flags.type + "'");
  model::SynthOptions options = flags.shape;
  options.type = type->type;
  return model::synthesize(options, flags.out);
}

}  // namespace

void add_synth(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command = app.add_subcommand("synth", "Write a random model that costs what a real one costs");
  command->add_option("OUT", flags->out, "GGUF file to write")->required();
  auto* preset = command->add_option("--preset", flags->preset, "A known shape: 1.1b (the default)");
  preset->check(CLI::IsMember({"1.1b"}));
  model::SynthOptions& shape = flags->shape;
  command->add_option("--embd", shape.embd, "Embedding width")->capture_default_str();
  command->add_option("--layers", shape.layers, "Layers")->capture_default_str();
  command->add_option("--heads", shape.heads, "Attention heads")->capture_default_str();
  command->add_option("--kv-heads", shape.kv_heads, "Key and value heads")->capture_default_str();
  command->add_option("--ff", shape.ff, "Feed-forward width")->capture_default_str();
  command->add_option("--experts", shape.experts, "Experts in every layer; 0: a dense model")->capture_default_str();
  command->add_option("--experts-used", shape.experts_per_token, "Experts that a token passes through")
      ->capture_default_str();
  command->add_option("--vocab", shape.vocab, "Tokens in the vocabulary")->capture_default_str();
  command->add_option("--type", flags->type, "Type of the matrices: f16, q8_0, q4_0, q4_k, ...")->capture_default_str();
  command->add_option("--seed", shape.seed, "The same seed gives the same file")->capture_default_str();
  command->footer(
      "Examples:\n  baton synth model.gguf --preset 1.1b --type q4_0\n"
      "  baton synth small.gguf --embd 256 --layers 4 --heads 8 --kv-heads 2 --ff 896 --vocab 1000 --type f16");
  command->callback([&chosen, flags] { chosen = [flags] { return synth(*flags); }; });
}

}  // namespace baton::cli
