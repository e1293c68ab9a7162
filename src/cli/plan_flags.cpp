#include "cli/plan_flags.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <format>

#include "net/endpoint.h"

namespace baton::cli {

namespace {

// What a peer is called that --prefill-on gives by its address.
constexpr std::string_view kAddressedPeer = "peer";

Result<std::vector<plan::NodeRef>> parse_peers(const std::vector<std::string>& texts) {
  std::vector<plan::NodeRef> peers;
  for (const std::string& text : texts) {
    const plan::NodeRef peer = TRY(parse_peer(text));
    for (const plan::NodeRef& other : peers) {
      if (other.name == peer.name || other.fingerprint == peer.fingerprint) {
        return fail(ErrorCode::kInvalidArgument,
                    std::format("two of the --peer are called '{}' or have one key", peer.name));
      }
    }
    peers.push_back(peer);
  }
  return peers;
}

// Those given by --peer come first.
std::vector<plan::NodeRef> with_members(std::vector<plan::NodeRef> nodes, const std::vector<plan::NodeRef>& members) {
  for (const plan::NodeRef& member : members) {
    if (!std::ranges::contains(nodes, member.name, &plan::NodeRef::name)) nodes.push_back(member);
  }
  return nodes;
}

// One of the nodes, or one that is given by its address.
Result<plan::NodeRef> find_peer(std::string_view flag, const std::string& text, const plan::NodeRef& self,
                                const std::vector<plan::NodeRef>& nodes) {
  if (text.find('#') != std::string::npos) {
    if (std::ranges::contains(nodes, kAddressedPeer, &plan::NodeRef::name)) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("a --peer cannot be called '{}' where {} gives an address", kAddressedPeer, flag));
    }
    return parse_peer(std::format("{}={}", kAddressedPeer, text));
  }
  const auto found = std::ranges::find(nodes, text, &plan::NodeRef::name);
  if (found != nodes.end()) return *found;
  if (text == self.name || text == plan::kLocalName) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} '{}' is this machine itself: name another node, or leave the flag out", flag, text));
  }
  return fail(
      ErrorCode::kInvalidArgument,
      std::format("{} '{}' is neither host:port#fingerprint, as 'baton node' prints it there, nor the name of a "
                  "--peer or of a node of this machine's cluster",
                  flag, text));
}

Result<void> check_is_other(const plan::NodeRef& peer, const plan::NodeRef& self) {
  if (peer.fingerprint != self.fingerprint) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::format("the fingerprint given for {} is this machine's own ({}...): give the one that the other "
                          "machine's 'baton node' printed; two nodes on one machine need a --home each",
                          peer.name == kAddressedPeer ? peer.address : std::format("peer '{}'", peer.name),
                          self.fingerprint.substr(0, 12)));
}

}  // namespace

void PlanFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Other machines");
  auto* reader = command.add_option("--prefill-on", prefill_on,
                                    "Let this peer read the prompt: host:port#fingerprint as its 'baton node' prints "
                                    "it, or the name of a --peer or of a node of this machine's cluster");
  auto* border = command.add_option("--split", split, "... but only the layers below this one; the rest are read here");
  auto* whole = command.add_option("--plan", plan,
                                   "In place of these two: which node computes what, such as "
                                   "'prefill=A:0-16,local:16-32;decode=local:0-32'");
  whole->excludes(reader)->excludes(border)->type_name("PLAN");
  reader->type_name("PEER");
  border->type_name("LAYER");
  command.add_option("--peer", peers, "A node that --plan or --prefill-on may name; repeatable")
      ->type_name("NAME=PEER");
}

Result<plan::Plan> PlanFlags::plan_for(std::uint32_t layers, const plan::NodeRef& self,
                                       const std::vector<plan::NodeRef>& members) const {
  plan::Plan asked = TRY(asked_plan(layers, self, members));
  for (const plan::NodeRef& peer : asked.nodes) TRY(check_is_other(peer, self));
  return asked;
}

Result<plan::NodeRef> PlanFlags::peer_for(std::string_view flag, const std::string& text, const plan::NodeRef& self,
                                          const std::vector<plan::NodeRef>& members) const {
  plan::NodeRef peer = TRY(find_peer(flag, text, self, with_members(TRY(parse_peers(peers)), members)));
  TRY(check_is_other(peer, self));
  return peer;
}

Result<plan::Plan> PlanFlags::asked_plan(std::uint32_t layers, const plan::NodeRef& self,
                                         const std::vector<plan::NodeRef>& members) const {
  std::vector<plan::NodeRef> nodes = with_members(TRY(parse_peers(peers)), members);
  if (!plan.empty()) return plan::parse_plan(plan, nodes, layers);
  if (prefill_on.empty()) {
    if (split) return fail(ErrorCode::kInvalidArgument, "--split says where --prefill-on ends: give that too");
    return plan::Plan::single(layers);
  }
  const plan::NodeRef reader = TRY(find_peer("--prefill-on", prefill_on, self, nodes));
  const std::uint32_t end = split.value_or(layers);
  if (end == 0 || end > layers) {
    return fail(ErrorCode::kInvalidArgument, std::format("--split is a layer from 1 to {}, not {}", layers, end));
  }
  const std::string rest = end < layers ? std::format(",local:{}-{}", end, layers) : "";
  return plan::parse_plan(std::format("prefill={}:0-{}{};decode=local:0-{}", reader.name, end, rest, layers), {reader},
                          layers);
}

Result<plan::NodeRef> parse_peer(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return fail(ErrorCode::kInvalidArgument, std::format("--peer is NAME=host:port#fingerprint, not '{}'", text));
  }
  const std::string_view name = text.substr(0, equals);
  if (name == plan::kLocalName || name.find_first_of(",:;=") != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' cannot be the name of a peer", name));
  }
  const net::PeerAddress address = TRY(net::PeerAddress::parse(text.substr(equals + 1)));
  return plan::NodeRef{std::string(name), address.endpoint.to_string(), address.fingerprint.to_string()};
}

std::vector<std::string> peer_tasks(const plan::Plan& plan) {
  std::vector<std::string> lines;
  for (plan::NodeIndex node = 1; node < plan.nodes.size(); ++node) {
    std::string tasks;
    for (const auto& [verb, stages] : {std::pair("reads", &plan.prefill), std::pair("writes", &plan.decode)}) {
      const plan::Stage* stage = plan::stage_of(*stages, node);
      if (stage == nullptr) continue;
      tasks +=
          std::format("{}{} layers {}-{}", tasks.empty() ? "" : ", ", verb, stage->layers.begin, stage->layers.end);
    }
    lines.push_back(std::format("{} at {}: {}", plan.nodes[node].name, plan.nodes[node].address, tasks));
  }
  return lines;
}

}  // namespace baton::cli
