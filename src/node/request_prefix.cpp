#include "node/request_prefix.h"

#include <algorithm>
#include <format>
#include <ranges>

namespace baton::node {

bool may_go_on_behind_a_prefix(const plan::Plan& plan) {
  const auto here = [](const plan::Stage& stage) { return stage.node == plan::kCoordinator; };
  return std::ranges::all_of(plan.decode, here) && std::ranges::all_of(plan.prefill | std::views::drop(1), here);
}

bool does_all(const plan::Plan& plan, plan::NodeIndex node) {
  return plan.prefill.size() == 1 && plan.decode.size() == 1 && plan.prefill.front().node == node &&
         plan.decode.front().node == node;
}

bool does_all_elsewhere(const plan::Plan& plan) {
  return plan.prefill.front().node != plan::kCoordinator && does_all(plan, plan.prefill.front().node);
}

std::uint32_t most_prefix_tokens(const handoff::Open& open) {
  return (open.prompt_tokens - 1) / open.chunk_tokens * open.chunk_tokens;
}

PrefixNeed prefix_need(const handoff::Open& open, std::uint32_t tokens, LayerRange layers) {
  PrefixNeed need{.tokens = tokens, .layers = layers, .origin = origin_of(open)};
  need.exactly = open.determinism == handoff::Determinism::kDeterministic;
  if (open.plan.nodes.size() > 1 || need.exactly) need.grid = open.chunk_tokens;
  return need;
}

PrefixOrigin origin_of(const handoff::Open& open) {
  const std::string formats = std::format("{} {}", dtype_name(open.codec), dtype_name(open.hidden));
  const bool exact =
      open.codec == handoff::DType::kF16 && (open.hidden == handoff::DType::kF32 || open.plan.prefill.size() == 1);
  const bool alone = open.plan.nodes.size() == 1;
  return {.loss = alone || exact ? "" : formats,
          .shape = std::format("{} {} {}", open.plan.to_string(), open.chunk_tokens, formats)};
}

}  // namespace baton::node
