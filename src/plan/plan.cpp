#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <set>

namespace baton::plan {

namespace {

Result<void> validate_stages(std::string_view list, const Stages& stages, std::size_t nodes, std::uint32_t layers) {
  const auto wrong = [&](std::string why) {
    return fail(ErrorCode::kInvalidArgument, std::format("the plan's {} stages {}", list, why));
  };
  if (stages.empty()) return wrong("are missing");
  std::uint32_t next = 0;
  std::set<NodeIndex> seen;
  for (const Stage& stage : stages) {
    if (stage.node >= nodes) return wrong(std::format("name node {}, but the plan has {}", stage.node, nodes));
    if (!seen.insert(stage.node).second) return wrong("use a node twice; give it one range of layers");
    if (stage.layers.empty())
      return wrong(std::format("have an empty range {}-{}", stage.layers.begin, stage.layers.end));
    if (stage.layers.begin != next) {
      return wrong(std::format("go on at layer {}, but layer {} comes next", stage.layers.begin, next));
    }
    next = stage.layers.end;
  }
  if (next != layers) return wrong(std::format("end at layer {}, but the model has {}", next, layers));
  return {};
}

std::string stages_to_string(const Plan& plan, const Stages& stages) {
  std::string text;
  for (const Stage& stage : stages) {
    if (!text.empty()) text += ',';
    text += std::format("{}:{}-{}", plan.nodes[stage.node].name, stage.layers.begin, stage.layers.end);
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

Result<std::uint32_t> parse_layer(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not a layer number", text));
  }
  return value;
}

Result<NodeIndex> node_named(Plan& plan, std::string_view name, const std::vector<NodeRef>& peers) {
  const auto has_name = [&](const NodeRef& node) { return node.name == name; };
  if (const auto known = std::ranges::find_if(plan.nodes, has_name); known != plan.nodes.end()) {
    return static_cast<NodeIndex>(known - plan.nodes.begin());
  }
  const auto peer = std::ranges::find_if(peers, has_name);
  if (peer == peers.end()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("the plan names node '{}', which is neither 'local' nor a --peer", name));
  }
  plan.nodes.push_back(*peer);
  return static_cast<NodeIndex>(plan.nodes.size() - 1);
}

Result<Stages> parse_stages(Plan& plan, std::string_view text, const std::vector<NodeRef>& peers) {
  Stages stages;
  for (const std::string_view part : split(text, ',')) {
    const std::size_t colon = part.rfind(':');
    const std::size_t dash = part.rfind('-');
    if (colon == std::string_view::npos || dash == std::string_view::npos || dash < colon) {
      return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not a stage such as 'A:0-16'", part));
    }
    Stage stage;
    stage.node = TRY(node_named(plan, part.substr(0, colon), peers));
    stage.layers.begin = TRY(parse_layer(part.substr(colon + 1, dash - colon - 1)));
    stage.layers.end = TRY(parse_layer(part.substr(dash + 1)));
    stages.push_back(stage);
  }
  return stages;
}

}  // namespace

Plan Plan::single(std::uint32_t layers) {
  const Stages all = {{kCoordinator, {0, layers}}};
  return {.nodes = {{std::string(kLocalName), "", ""}}, .prefill = all, .decode = all};
}

Result<void> Plan::validate(std::uint32_t layers) const {
  if (nodes.empty() || nodes.size() > kMaxNodes) {
    return fail(ErrorCode::kInvalidArgument, std::format("a plan has 1 to {} nodes, not {}", kMaxNodes, nodes.size()));
  }
  TRY(validate_stages("prefill", prefill, nodes.size(), layers));
  TRY(validate_stages("decode", decode, nodes.size(), layers));
  return {};
}

std::string_view Plan::shape() const {
  const bool decodes_on_one = decode.size() == 1;
  const NodeIndex decoder = decode.front().node;
  if (prefill == decode) return decodes_on_one ? "single" : "pooled";
  if (!decodes_on_one) return "mixed";
  if (prefill.size() == 1) return "disaggregated";
  if (prefill.back().node == decoder) return prefill.size() == 2 ? "joint" : "relay";
  return "mixed";
}

std::string Plan::to_string() const {
  return std::format("prefill={};decode={}", stages_to_string(*this, prefill), stages_to_string(*this, decode));
}

Result<Plan> parse_plan(std::string_view text, const std::vector<NodeRef>& peers, std::uint32_t layers) {
  Plan plan{.nodes = {{std::string(kLocalName), "", ""}}, .prefill = {}, .decode = {}};
  for (const std::string_view part : split(text, ';')) {
    constexpr std::string_view kPrefill = "prefill=";
    constexpr std::string_view kDecode = "decode=";
    if ((part.starts_with(kPrefill) && !plan.prefill.empty()) || (part.starts_with(kDecode) && !plan.decode.empty())) {
      return fail(ErrorCode::kInvalidArgument, std::format("the plan says '{}' twice", part.substr(0, part.find('='))));
    }
    if (part.starts_with(kPrefill)) {
      plan.prefill = TRY(parse_stages(plan, part.substr(kPrefill.size()), peers));
    } else if (part.starts_with(kDecode)) {
      plan.decode = TRY(parse_stages(plan, part.substr(kDecode.size()), peers));
    } else {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("'{}' in the plan is neither 'prefill=...' nor 'decode=...'", part));
    }
  }
  TRY(plan.validate(layers));
  return plan;
}

const Stage* stage_of(const Stages& stages, NodeIndex node) {
  const auto found = std::ranges::find(stages, node, &Stage::node);
  return found == stages.end() ? nullptr : &*found;
}

const Stage* stage_with(const Stages& stages, std::uint32_t layer) {
  const auto found = std::ranges::find_if(stages, [&](const Stage& stage) { return stage.layers.contains(layer); });
  return found == stages.end() ? nullptr : &*found;
}

const Stage* stage_before(const Stages& stages, NodeIndex node) {
  const Stage* stage = stage_of(stages, node);
  return stage == nullptr || stage == &stages.front() ? nullptr : stage - 1;
}

const Stage* stage_after(const Stages& stages, NodeIndex node) {
  const Stage* stage = stage_of(stages, node);
  return stage == nullptr || stage == &stages.back() ? nullptr : stage + 1;
}

}  // namespace baton::plan
