// What a request's plan says of the rows that it may begin behind, for the sources of Request alone.
#pragma once

#include "handoff/messages.h"
#include "node/prefix_cache.h"
#include "plan/plan.h"

namespace baton::node {

// Each node must hold the prefix for all its layers: this one does, and the first stage can compute what it lacks.
bool may_go_on_behind_a_prefix(const plan::Plan& plan);

// Of the rows that a request which may do so leaves in this node's cache.
PrefixOrigin origin_of(const handoff::Open& open);

}  // namespace baton::node
