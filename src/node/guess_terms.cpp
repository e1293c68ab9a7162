#include "node/guess_terms.h"

#include <algorithm>

namespace baton::node {

namespace {

Bytes encode(const engine::SamplerOptions& sampler) {
  ByteWriter out;
  out.write(sampler.temperature);
  out.write(sampler.top_k);
  out.write(sampler.top_p);
  out.write(sampler.min_p);
  out.write(sampler.repeat_penalty);
  out.write(sampler.presence_penalty);
  out.write(sampler.frequency_penalty);
  out.write(sampler.penalty_window);
  out.write(sampler.penalty_from);
  out.write(sampler.seed);
  return std::move(out).take();
}

}  // namespace

handoff::Open open_for_guesses(const handoff::Open& request, const GuessTerms& terms,
                               const engine::SamplerOptions& sampler) {
  handoff::Open open = request;
  const plan::NodeRef coordinator = request.plan.nodes.front();
  open.plan = plan::Plan::single(terms.layers);
  open.plan.nodes = {coordinator, terms.peer};
  open.sender = 1;
  open.receiver = plan::kCoordinator;
  open.prompt_tokens = terms.text_tokens;
  open.max_new_tokens = terms.more_tokens;
  open.prefix_tokens = 0;
  open.prefix = {};
  open.extensions = {{.id = handoff::kGuessExtension, .value = encode(sampler)}};
  return open;
}

Result<engine::SamplerOptions> sampler_of(const handoff::Open& open) {
  const auto terms = std::ranges::find(open.extensions, handoff::kGuessExtension, &handoff::Extension::id);
  if (terms == open.extensions.end()) return fail(ErrorCode::kProtocol, "the request wants no guesses");
  ByteReader in(terms->value);
  engine::SamplerOptions sampler;
  const auto read = [&]() -> Result<void> {
    sampler.temperature = TRY(in.read<float>());
    sampler.top_k = TRY(in.read<std::uint32_t>());
    sampler.top_p = TRY(in.read<float>());
    sampler.min_p = TRY(in.read<float>());
    sampler.repeat_penalty = TRY(in.read<float>());
    sampler.presence_penalty = TRY(in.read<float>());
    sampler.frequency_penalty = TRY(in.read<float>());
    sampler.penalty_window = TRY(in.read<std::uint32_t>());
    sampler.penalty_from = TRY(in.read<std::uint32_t>());
    sampler.seed = TRY(in.read<std::uint64_t>());
    return {};
  };
  if (!read() || in.remaining() != 0) {
    return fail(ErrorCode::kProtocol, "the request for guesses does not say how its text is drawn");
  }
  return sampler;
}

}  // namespace baton::node
