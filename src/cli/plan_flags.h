// How `baton run` is told which node computes what: --peer, --plan, --prefill-on, --split.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "plan/plan.h"

namespace CLI {
class App;
}

namespace baton::cli {

struct PlanFlags {
  std::vector<std::string> peers = {};
  std::string plan = {};
  std::string prefill_on = {};
  std::optional<std::uint32_t> split = std::nullopt;

  void add_to(CLI::App& command);
  // The plan for a model of so many layers: --plan as it is written, --prefill-on as a disaggregated or joint one, and
  // without either this node alone. Errors: kInvalidArgument, with the flag that is wrong; also where the plan counts
  // on a peer that is this machine, by its fingerprint or by the name that it has in its cluster. `members` are the
  // cluster's other nodes, that may be named without a --peer; a --peer of the same name comes first.
  Result<plan::Plan> plan_for(std::uint32_t layers, const plan::NodeRef& self,
                              const std::vector<plan::NodeRef>& members = {}) const;
  // Whether it names anybody else at all.
  bool wants_others() const { return !plan.empty() || !prefill_on.empty(); }
  // The peer that another flag names as --prefill-on does. Errors: the same.
  Result<plan::NodeRef> peer_for(std::string_view flag, const std::string& text, const plan::NodeRef& self,
                                 const std::vector<plan::NodeRef>& members = {}) const;

 private:
  Result<plan::Plan> asked_plan(std::uint32_t layers, const plan::NodeRef& self,
                                const std::vector<plan::NodeRef>& members) const;
};

// "NAME=host:port#fingerprint" as --peer takes it.
Result<plan::NodeRef> parse_peer(std::string_view text);

// For each peer of a plan where it is and what it does: "A at 192.0.2.7:8771: reads layers 0-26".
std::vector<std::string> peer_tasks(const plan::Plan& plan);

}  // namespace baton::cli
