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

}  // namespace

void PlanFlags::add_to(CLI::App& command) {
  command.add_option("--plan", plan, "Which node computes what: 'prefill=A:0-16,local:16-32;decode=local:0-32'");
  command.add_option("--peer", peers, "A node the plan may name: NAME=host:port#fingerprint; repeatable");
  command
      .add_option("--prefill-on", prefill_on,
                  "Let this peer (a --peer's name, or host:port#fingerprint) read the prompt")
      ->excludes("--plan");
  command.add_option("--split", split, "... but only its layers below this one; the rest are read here")
      ->excludes("--plan");
}

Result<plan::Plan> PlanFlags::plan_for(std::uint32_t layers) const {
  std::vector<plan::NodeRef> nodes = TRY(parse_peers(peers));
  if (!plan.empty()) return plan::parse_plan(plan, nodes, layers);
  if (prefill_on.empty()) {
    if (split) return fail(ErrorCode::kInvalidArgument, "--split says where --prefill-on ends: give that too");
    return plan::Plan::single(layers);
  }
  std::string name = prefill_on;
  if (name.find('#') != std::string::npos) {
    if (std::ranges::contains(nodes, kAddressedPeer, &plan::NodeRef::name)) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("a --peer cannot be called '{}' where --prefill-on gives an address", kAddressedPeer));
    }
    nodes.push_back(TRY(parse_peer(std::format("{}={}", kAddressedPeer, prefill_on))));
    name = kAddressedPeer;
  }
  const std::uint32_t end = split.value_or(layers);
  if (end == 0 || end > layers) {
    return fail(ErrorCode::kInvalidArgument, std::format("--split is a layer from 1 to {}, not {}", layers, end));
  }
  const std::string rest = end < layers ? std::format(",local:{}-{}", end, layers) : "";
  return plan::parse_plan(std::format("prefill={}:0-{}{};decode=local:0-{}", name, end, rest, layers), nodes, layers);
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

}  // namespace baton::cli
