#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <format>
#include <vector>

#include "base/error_table.h"
#include "base/stream.h"
#include "cli/command.h"
#include "cli/help.h"
#include "engine/environment.h"
#include "net/event_loop.h"
#include "net/service_discovery.h"

namespace {

std::string exit_statuses() {
  const auto codes = baton::all_error_codes();
  std::vector<baton::ErrorFacts> sorted(codes.begin(), codes.end());
  std::ranges::sort(sorted, {}, &baton::ErrorFacts::exit_status);
  std::string text = "Exit status:\n    0 done";
  for (const baton::ErrorFacts& facts : sorted) text += std::format("\n  {:>3} {}", facts.exit_status, facts.meaning);
  return text;
}

// For somebody who typed the name alone.
std::string introduction(const CLI::App& app) {
  std::string text =
      "Baton can " + app.get_description() + ":\n\n" +
      "  baton run model.gguf     # a chat with a model, or with what 'baton up' runs where none is named\n"
      "  baton up model.gguf      # serve it: a chat page, and the APIs of OpenAI, Anthropic and Ollama\n"
      "  baton pull qwen3:8b      # get one, where none is at hand\n\n"
      "Commands:";
  for (const CLI::App* command : app.get_subcommands({})) text += " " + command->get_name();
  return text + "\n'baton --help' says what each does, 'baton COMMAND --help' how, with examples.";
}

// What was wrong with the command line, in our own manner, and where to read on.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error, std::string_view first_argument) {
  const auto chosen = app.get_subcommands();
  if (chosen.empty() && first_argument.empty()) return "no command is given\n\n" + introduction(app);
  if (chosen.empty()) {
    return std::format("there is no command '{}'; 'baton --help' lists those there are", first_argument);
  }
  std::string text = error.what();
  // CLI11 begins a sentence; an argument's name stays as it is.
  if (text.size() > 1 && std::islower(static_cast<unsigned char>(text[1])) != 0) {
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  }
  return std::format("{}; see 'baton {} --help'", text, chosen.front()->get_name());
}

}  // namespace

int main(int argc, char** argv) {
  using namespace baton;
  open_standard_input();
  engine::prepare_process_environment(argv);
  net::ServiceDiscovery::prepare_process_environment();
  net::ignore_sigpipe();

  CLI::App app("run a large language model on the computers you already own, together", "baton");
  app.require_subcommand(1);
  app.formatter(cli::help_formatter());
  app.set_version_flag("--version", std::string("baton ") + BATON_VERSION);
  app.set_help_flag("-h,--help", "Print this help");
  app.set_help_all_flag("--help-all", "Print the help of all commands");
  app.footer(exit_statuses());
  cli::Action chosen;
  cli::add_run(app, chosen);
  cli::add_up(app, chosen);
  cli::add_models(app, chosen);
  cli::add_cluster(app, chosen);
  cli::add_node(app, chosen);
  cli::add_id(app, chosen);
  cli::add_key(app, chosen);
  cli::add_doctor(app, chosen);
  cli::add_plan(app, chosen);
  cli::add_bench(app, chosen);
  cli::add_logits(app, chosen);
  cli::add_tokenize(app, chosen);
  cli::add_synth(app, chosen);
  cli::add_demo(app, chosen);
  cli::add_manual(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // what was asked for is the help
    std::fprintf(stderr, "baton: %s\n", usage_error(app, error, argc > 1 ? argv[1] : "").c_str());
    return exit_code(ErrorCode::kInvalidArgument);
  }
  if (const auto done = chosen(); !done) {
    std::fprintf(stderr, "baton: %s\n", done.error().to_string().c_str());
    return exit_code(done.error().code);
  }
  return 0;
}
