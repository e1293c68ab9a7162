// How an Open asks for guesses (docs/formats/kv-stream.md, "Guesses"), as this room writes and reads it.
#pragma once

#include "engine/sampler.h"
#include "handoff/messages.h"
#include "plan/plan.h"

namespace baton::node {

// What the coordinator of a request asks `peer`: to guess at its text, of so many tokens so far and at most so many
// more, drawn so. Biases of single tokens are not told: they may be as many as the vocabulary has. The lease is the
// caller's.
struct GuessTerms {
  plan::NodeRef peer;
  std::uint32_t layers = 0;  // of the request's model
  std::uint32_t text_tokens = 0;
  std::uint32_t more_tokens = 0;
};
handoff::Open open_for_guesses(const handoff::Open& request, const GuessTerms& terms,
                               const engine::SamplerOptions& sampler);

// Whose text it is draws like this. kProtocol where the Open does not say so.
Result<engine::SamplerOptions> sampler_of(const handoff::Open& open);

}  // namespace baton::node
