// A plan says which node computes which layers of a request: one list of stages for prefill, one for decode.
// Pure values; a plan that came from a user or a peer is trusted only after validate().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"

namespace baton::plan {

using NodeIndex = std::uint16_t;

// The node that received the request is always the plan's first.
inline constexpr NodeIndex kCoordinator = 0;
inline constexpr std::string_view kLocalName = "local";
inline constexpr std::size_t kMaxNodes = 64;

struct NodeRef {
  std::string name;         // what the plan's text calls it; "local" for the coordinator
  std::string address;      // host:port where other nodes reach it; may be empty for the coordinator
  std::string fingerprint;  // of its key, hexadecimal

  bool operator==(const NodeRef&) const = default;
};

struct Stage {
  NodeIndex node = kCoordinator;
  LayerRange layers;

  bool operator==(const Stage&) const = default;
};

using Stages = std::vector<Stage>;

struct Plan {
  std::vector<NodeRef> nodes;
  Stages prefill;
  Stages decode;

  // Everything on the coordinator.
  static Plan single(std::uint32_t layers);

  // Nodes are named and used, each at most once per list, and each list covers layers 0..layers without gap or overlap.
  Result<void> validate(std::uint32_t layers) const;

  // The five shapes of the architecture: "single", "disaggregated", "joint", "relay", "pooled", or "mixed" for others.
  std::string_view shape() const;

  // "prefill=A:0-16,local:16-32;decode=local:0-32"
  std::string to_string() const;

  bool operator==(const Plan&) const = default;
};

// Reads the form that to_string() writes. `peers` are the nodes that the text may name beside "local";
// only those it names become part of the plan. The result is validated for `layers` layers.
Result<Plan> parse_plan(std::string_view text, const std::vector<NodeRef>& peers, std::uint32_t layers);

// The stage of `node` in a list, or of the node that has `layer`; nothing where there is none.
const Stage* stage_of(const Stages& stages, NodeIndex node);
const Stage* stage_with(const Stages& stages, std::uint32_t layer);

// The stage that feeds `node` its hidden states, or takes them from it; null at the ends and for nodes without a stage.
const Stage* stage_before(const Stages& stages, NodeIndex node);
const Stage* stage_after(const Stages& stages, NodeIndex node);

}  // namespace baton::plan
