// Guesses from what stood in the text before.
#pragma once

#include <span>

#include "engine/prompt_lookup.h"
#include "node/proposer.h"

namespace baton::node {

class LookupProposer : public Proposer {
 public:
  explicit LookupProposer(std::span<const Token> prompt);

  std::string_view name() const override { return "lookup"; }
  Cost cost() const override { return Cost::kNone; }
  void push(Token token) override { lookup_.push(token); }
  void propose(std::uint32_t most, Done done) override;

 private:
  engine::PromptLookup lookup_;
};

}  // namespace baton::node
