#include "node/lookup_proposer.h"

#include <utility>

namespace baton::node {

LookupProposer::LookupProposer(std::span<const Token> prompt) {
  for (const Token token : prompt) lookup_.push(token);
}

void LookupProposer::propose(std::uint32_t most, Done done) {
  engine::PromptLookup::Guess found = lookup_.guess(most);
  Guess guess;
  guess.tokens = std::move(found.tokens);
  guess.confidence = found.matched;
  done(std::move(guess));
}

}  // namespace baton::node
