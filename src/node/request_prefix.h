// What a request's plan says of the rows that it may begin behind.
#pragma once

#include "handoff/messages.h"
#include "node/prefix_cache.h"
#include "plan/plan.h"

namespace baton::node {

// Each node must hold the prefix for all its layers: this one does, and the first stage can compute what it lacks.
bool may_go_on_behind_a_prefix(const plan::Plan& plan);

// Whether this node reads and writes alone.
bool does_all(const plan::Plan& plan, plan::NodeIndex node);

// Whether another node does: it keeps what it computes, and knows what that is.
bool does_all_elsewhere(const plan::Plan& plan);

// Of the prompt, the last border of its grid but for its last token: what another node may hold of it.
std::uint32_t most_prefix_tokens(const handoff::Open& open);

// What a request that may do so asks of this node's kept texts: room for so many tokens in all of its layers. Who moves
// rows to other nodes, or wants the same bits again, begins on the grid of chunks.
PrefixNeed prefix_need(const handoff::Open& open, std::uint32_t tokens, LayerRange layers);

// Of the rows that a request which may do so leaves in this node's cache.
PrefixOrigin origin_of(const handoff::Open& open);

}  // namespace baton::node
