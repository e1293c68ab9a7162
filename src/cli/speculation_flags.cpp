#include "cli/speculation_flags.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <format>
#include <utility>

#include "engine/draft_model.h"

namespace baton::cli {

void SpeculationFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Guessing");
  command
      .add_option("--speculate", speculate,
                  "Guess tokens and check several at once; the text stays the same: auto (where that holds bit by bit "
                  "and gains time), lookup (from what stood before, on any device), draft (by --draft, on any device), "
                  "off")
      ->check(CLI::IsMember({"auto", "off", "lookup", "draft"}))
      ->capture_default_str();
  command
      .add_option(
          "--draft-on", draft_on,
          "Let the draft model of this peer guess, whose node was started with --draft: named as by --prefill-on")
      ->type_name("PEER");
  add_model_to(command);
}

void SpeculationFlags::add_model_to(CLI::App& command) {
  command.option_defaults()->group("Guessing");
  command.add_option("--draft", draft, "A small model with the same tokens, which guesses")->type_name("FILE");
  command.add_option("--draft-device", draft_device, "Device to guess on; by default the same as --device")
      ->type_name("NAME");
}

Result<node::Speculation> SpeculationFlags::speculation() const {
  const node::Speculation chosen = TRY(node::parse_speculation(speculate));
  if (chosen == node::Speculation::kDraft && draft.empty() && draft_on.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "--speculate draft needs a model that guesses: give it with --draft FILE, or a peer that has one with "
                "--draft-on PEER");
  }
  if (chosen == node::Speculation::kLookup && !(draft.empty() && draft_on.empty())) {
    return fail(
        ErrorCode::kInvalidArgument,
        std::format("{} names a model that guesses, and --speculate lookup asks for none: leave one of them out",
                    draft.empty() ? "--draft-on" : "--draft"));
  }
  return chosen;
}

Result<std::shared_ptr<const engine::Model>> SpeculationFlags::open_draft(const engine::Model& checker) const {
  if (draft.empty() || speculate == "off") return nullptr;
  return engine::open_draft_model(draft, checker);
}

Result<std::unique_ptr<engine::Engine>> SpeculationFlags::load_draft_for(const plan::Plan& plan,
                                                                         std::shared_ptr<const engine::Model> model,
                                                                         const engine::Engine& checker) const {
  if (model == nullptr) return nullptr;
  if (const std::string why = node::why_not_speculate(TRY(speculation()), plan, checker); !why.empty()) {
    std::fprintf(stderr, "baton: %s is not used: %s\n", draft.c_str(), why.c_str());
    return nullptr;
  }
  return load_draft(std::move(model), checker);
}

Result<std::unique_ptr<engine::Engine>> SpeculationFlags::load_draft(std::shared_ptr<const engine::Model> model,
                                                                     const engine::Engine& checker) const {
  if (model == nullptr) return nullptr;
  engine::EngineOptions options = checker.options();
  if (!draft_device.empty()) options.device = draft_device;
  options.layers.reset();
  return engine::Engine::create(std::move(model), options);
}

}  // namespace baton::cli
