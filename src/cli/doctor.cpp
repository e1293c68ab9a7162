#include <unistd.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/doctor_checks.h"
#include "cli/doctor_network.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/text_output.h"
#include "cluster/control.h"
#include "cluster/link.h"

namespace baton::cli {

// A finding as --json prints it.
struct FindingJson {
  std::string check;
  std::string verdict;
  std::string message;
  std::string advice;
};

namespace {

constexpr auto kCheckTimeout = std::chrono::seconds(5);

struct DoctorFlags {
  OutputFormat format = OutputFormat::kText;
  LinkFlags link;
};

void append(Findings& findings, Findings more) {
  for (Finding& finding : more) findings.push_back(std::move(finding));
}

// What only a node that runs here knows; what the folder knows where none does.
Result<void> examine_cluster(Findings& findings, const DoctorFlags& flags, const std::vector<Interface>& interfaces) {
  const std::filesystem::path path = TRY(flags.link.folder());
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    append(findings, check_interfaces(interfaces, {}));
    findings.push_back({"cluster", Verdict::kOk, "this machine is in no cluster yet", ""});
    return {};
  }
  const cluster::Folder folder = TRY(cluster::Folder::open(path));
  const std::string own_id = folder.identity().fingerprint().to_string();
  auto answer = cluster::ask(folder, {.command = cluster::Command::kNodes}, Duration(kCheckTimeout));
  const bool running = answer.has_value();
  if (!running && TRY(folder.read_members())) answer = cluster::ask_folder(folder);
  if (!answer) {
    append(findings, check_interfaces(interfaces, {}));
    findings.push_back({"cluster", Verdict::kOk, "this machine is in no cluster yet", ""});
    return {};
  }
  const std::vector<Route> routes = find_routes(answer->nodes, own_id);
  append(findings, check_interfaces(interfaces, routes));
  if (!running) {
    findings.push_back({"node", Verdict::kWarning,
                        std::format("no node of '{}' runs here, so nobody knows how the others are", answer->cluster),
                        "start it: 'baton up MODEL'"});
    return {};
  }
  if (const auto listens = TRY(folder.read_running())) {
    append(findings, check_port(*listens, answer->nodes.size() - 1));
  }
  append(findings, check_cluster(*answer, own_id, cluster::own_software(), interfaces, routes));
  return {};
}

enum class Colours { kNone, kTerminal };

std::string text_of(const Findings& findings, Colours colours) {
  std::string text;
  for (const Finding& finding : findings) {
    const char* colour = finding.verdict == Verdict::kOk        ? "\033[32m"
                         : finding.verdict == Verdict::kWarning ? "\033[33m"
                                                                : "\033[31m";
    const bool coloured = colours == Colours::kTerminal;
    text += std::format("{}{:<8}{} {}: {}\n", coloured ? colour : "", verdict_name(finding.verdict),
                        coloured ? "\033[0m" : "", finding.check, finding.message);
    if (!finding.advice.empty()) text += std::format("         -> {}\n", finding.advice);
  }
  return text;
}

Result<void> run_doctor(const DoctorFlags& flags) {
  Findings findings;
  findings.push_back({"version", Verdict::kOk, cluster::own_software(), ""});
  const auto devices = engine::list_devices();
  append(findings, check_backend(devices));
  const store::Store store = TRY(open_store(flags.link));
  append(findings, check_memory(TRY(store.list()), devices));
  append(findings, check_model_folder(store.folder()));
  append(findings, check_kept_texts(TRY(flags.link.folder())));
  append(findings, check_discovery());
  TRY(examine_cluster(findings, flags, read_interfaces()));
  if (flags.format == OutputFormat::kJson) {
    std::vector<FindingJson> list;
    for (const Finding& finding : findings) {
      list.push_back({finding.check, std::string(verdict_name(finding.verdict)), finding.message, finding.advice});
    }
    TRY(print(glz::write_json(list).value_or("[]") + "\n"));
  } else {
    TRY(print(text_of(findings, isatty(STDOUT_FILENO) != 0 ? Colours::kTerminal : Colours::kNone)));
  }
  const auto problems = std::ranges::count(findings, Verdict::kProblem, &Finding::verdict);
  if (problems == 0) return {};
  return fail(ErrorCode::kUnavailable, std::format("{} problem{} found", problems, problems == 1 ? "" : "s"));
}

}  // namespace

void add_doctor(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command = app.add_subcommand("doctor", "Look for what keeps this machine or its cluster from working well");
  add_json_flag(*command, flags->format, "Print a JSON array");
  flags->link.add_home_to(*command);
  command->footer(
      "Looks at the device that computes, memory and disk, network interfaces, discovery, this machine's node and its "
      "peers.\n"
      "The exit status is 0 unless there is a problem; warnings alone do not count.\n\n"
      "Example:\n  baton doctor --json");
  command->callback([&chosen, flags] { chosen = [flags] { return run_doctor(*flags); }; });
}

}  // namespace baton::cli
