// A second, small model that guesses what the large one will write.
#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"
#include "node/speculator.h"
#include "plan/plan.h"

namespace CLI {
class App;
}

namespace baton::cli {

// --speculate, --draft, --draft-device, --draft-on
struct SpeculationFlags {
  std::string speculate = "auto";
  std::string draft;
  std::string draft_device;
  std::string draft_on;

  // How this machine's own texts are guessed at.
  void add_to(CLI::App& command);
  // --draft and --draft-device alone, for a node that guesses for others.
  void add_model_to(CLI::App& command);
  // kInvalidArgument where the flags contradict each other.
  Result<node::Speculation> speculation() const;
  // The draft model, checked against the one it is to guess for; null where none is asked for.
  Result<std::shared_ptr<const engine::Model>> open_draft(const engine::Model& checker) const;
  // Its engine, which computes like `checker`; null without a model.
  Result<std::unique_ptr<engine::Engine>> load_draft(std::shared_ptr<const engine::Model> draft,
                                                     const engine::Engine& checker) const;
  // The same for texts by this plan alone: null, too, where it leaves nothing to guess, which is said on standard
  // error.
  Result<std::unique_ptr<engine::Engine>> load_draft_for(const plan::Plan& plan,
                                                         std::shared_ptr<const engine::Model> draft,
                                                         const engine::Engine& checker) const;
};

}  // namespace baton::cli
