// The commands that look after a cluster: join, token, nodes, promote, revoke, leave.
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/text_output.h"
#include "cluster/control.h"
#include "cluster/join.h"

namespace baton::cli {

namespace {

constexpr auto kAnswerTimeout = std::chrono::seconds(5);
constexpr auto kJoinPatience = std::chrono::seconds(20);
constexpr std::size_t kIdDigits = 12;

struct ClusterFlags {
  std::string token;
  std::vector<std::string> addresses;
  std::string name;
  std::string node;
  std::int64_t lifetime_s = 3600;
  OutputFormat format = OutputFormat::kText;
  LinkFlags link;

  Result<cluster::Folder> folder() const { return cluster::Folder::open(TRY(link.folder())); }
};

Result<cluster::ControlAnswer> command_node(const ClusterFlags& flags, cluster::Command command) {
  const cluster::Folder folder = TRY(flags.folder());
  return cluster::ask(folder, {.command = command, .node = flags.node, .lifetime_s = flags.lifetime_s},
                      Duration(kAnswerTimeout));
}

Result<void> run_join(const ClusterFlags& flags) {
  const auto token = TRY(trust::JoinToken::parse(flags.token));
  std::vector<net::Endpoint> addresses;
  for (const std::string& text : flags.addresses) addresses.push_back(TRY(net::Endpoint::parse(text)));
  const std::string name = flags.name.empty() ? machine_name() : flags.name;
  const auto joined = TRY(cluster::join(TRY(flags.folder()), token, addresses, name, Duration(kJoinPatience)));
  TRY(print(
      std::format("{} is in the cluster '{}' of {} nodes, met at {}, {}\n", joined.node_name, joined.cluster_name,
                  joined.nodes, joined.met_at.to_string(),
                  joined.found_by == cluster::FoundBy::kAddress ? "by its address" : "found on the local network")));
  remark("start it with 'baton up MODEL'\n");
  return {};
}

Result<void> run_token(const ClusterFlags& flags) {
  return print(TRY(command_node(flags, cluster::Command::kToken)).token + "\n");
}

std::string gigabytes(std::uint64_t bytes) { return std::format("{:.1f}", static_cast<double>(bytes) / 1e9); }

std::string table_of(const cluster::ControlAnswer& answer) {
  std::vector<std::vector<std::string>> rows = {{"NODE", "ID", "ROLE", "STATUS", "ADDRESS", "RTT", "FREE GB", "MODEL"}};
  for (const cluster::NodeReport& node : answer.nodes) {
    std::uint64_t free_bytes = 0;
    for (const auto& device : node.state.devices) free_bytes = std::max(free_bytes, device.free_bytes);
    std::string models;
    for (const auto& model : node.state.models) {
      models += std::format("{}{} {}-{}", models.empty() ? "" : ", ", model.name, model.layers_begin, model.layers_end);
    }
    rows.push_back({node.name, node.id.substr(0, kIdDigits), node.role, node.status, node.address,
                    node.round_trip_ms > 0 ? std::format("{:.1f} ms", node.round_trip_ms) : "-",
                    free_bytes > 0 ? gigabytes(free_bytes) : "-", models.empty() ? "-" : models});
  }
  std::string text =
      std::format("cluster {} ({}), epoch {}\n", answer.cluster, answer.cluster_id.substr(0, kIdDigits), answer.epoch);
  text += table_text(rows);
  for (const cluster::NodeReport& node : answer.nodes) {
    if (!node.problem.empty()) text += std::format("{}: {}\n", node.name, node.problem);
  }
  return text;
}

Result<void> run_nodes(const ClusterFlags& flags) {
  const cluster::Folder folder = TRY(flags.folder());
  auto answer = cluster::ask(folder, {.command = cluster::Command::kNodes}, Duration(kAnswerTimeout));
  const bool running = answer.has_value();
  if (!running && answer.error().code != ErrorCode::kUnavailable) return std::unexpected(answer.error());
  if (!running) answer = TRY(cluster::ask_folder(folder));
  if (flags.format == OutputFormat::kJson) {
    return print(glz::write_json(*answer).value_or("{}") + "\n");
  }
  TRY(print(table_of(*answer)));
  if (!running) remark("no node runs here, so nobody knows how the others are: 'baton up MODEL' starts it\n");
  return {};
}

// Where the node that runs cannot leave, or none does.
Result<void> leave_unheard(const ClusterFlags& flags, const Error& why_not) {
  const cluster::Folder folder = TRY(flags.folder());
  const auto left = cluster::leave_alone(folder);
  if (left || left.error().code != ErrorCode::kUnavailable) return left;
  return fail(ErrorCode::kUnavailable, why_not.message + "; or let an admin revoke this node, and delete its folder",
              folder.path().string());
}

Result<void> run_command(const ClusterFlags& flags, cluster::Command command) {
  auto done = command_node(flags, command);
  if (!done && command == cluster::Command::kLeave && done.error().code == ErrorCode::kUnavailable) {
    return leave_unheard(flags, done.error());
  }
  const auto answer = TRY(std::move(done));
  if (answer.stay.empty()) return {};
  std::string names;
  for (const std::string& name : answer.stay) names += (names.empty() ? "" : ", ") + name;
  return print(
      std::format("what {} had let in or made admins stays: {}\nif one of them is not yours: 'baton revoke NODE'\n",
                  flags.node, names));
}

CLI::App* add_one(CLI::App& app, const char* name, const char* what, const std::shared_ptr<ClusterFlags>& flags) {
  CLI::App* command = app.add_subcommand(name, what);
  flags->link.add_home_to(*command);
  return command;
}

void add_simple(CLI::App& app, Action& chosen, const char* name, const char* what, cluster::Command asked,
                const char* footer) {
  auto flags = std::make_shared<ClusterFlags>();
  CLI::App* command = add_one(app, name, what, flags);
  if (asked != cluster::Command::kLeave) {
    command->add_option("NODE", flags->node, "A node's name, or the first digits of its id")->required();
  }
  command->footer(footer);
  command->callback([&chosen, flags, asked] { chosen = [flags, asked] { return run_command(*flags, asked); }; });
}

}  // namespace

void add_cluster(CLI::App& app, Action& chosen) {
  {
    auto flags = std::make_shared<ClusterFlags>();
    CLI::App* command = add_one(app, "join", "Make this machine a node of a cluster, by a token from there", flags);
    command->add_option("TOKEN", flags->token, "What 'baton token' printed")->required();
    command->add_option("ADDRESS", flags->addresses, "Where to reach the other machine, if not where the token says")
        ->type_name("HOST:PORT");
    command->add_option("--name", flags->name, "What to call this node; by default this machine's name");
    command->footer(
        "The machine's key is made here and stays here.\n\nExample:\n  baton join baton-join-AdCb53... && baton up "
        "model.gguf");
    command->callback([&chosen, flags] { chosen = [flags] { return run_join(*flags); }; });
  }
  {
    auto flags = std::make_shared<ClusterFlags>();
    CLI::App* command = add_one(app, "token", "Print a token by which one machine may join this one's cluster", flags);
    command->add_option("--lifetime", flags->lifetime_s, "Seconds until it expires")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{30 * 24 * 3600}))
        ->capture_default_str();
    command->footer(
        "Whoever has the token can join, once: hand it over as you would a password. The node must be up, and an\n"
        "admin.\n\nExample:\n  baton token --lifetime 600");
    command->callback([&chosen, flags] { chosen = [flags] { return run_token(*flags); }; });
  }
  {
    auto flags = std::make_shared<ClusterFlags>();
    CLI::App* command = add_one(app, "nodes", "List the nodes of this machine's cluster, and how they are", flags);
    add_json_flag(*command, flags->format, "Print one JSON object");
    command->footer("Example:\n  baton nodes --json");
    command->callback([&chosen, flags] { chosen = [flags] { return run_nodes(*flags); }; });
  }
  add_simple(app, chosen, "promote", "Make a node an admin, which may let others in and revoke them",
             cluster::Command::kPromote,
             "With two admins or more, no one machine's end is the cluster's end.\n\nExample:\n  baton promote spark");
  add_simple(
      app, chosen, "revoke", "Cut a node off from the cluster, for ever", cluster::Command::kRevoke,
      "Its key is refused by every node within seconds, and by those that cannot be reached now as soon as they\n"
      "are back. Whom it had let in or made admins stays, and is listed.\n\nExample:\n  baton revoke spark");
  add_simple(
      app, chosen, "leave", "Take this machine out of its cluster", cluster::Command::kLeave,
      "The node tells the others, ends, and forgets the cluster. To come back it needs a new key: delete its data\n"
      "folder first.\n\nExample:\n  baton leave");
}

}  // namespace baton::cli
