#include <CLI/CLI.hpp>

#include <cstdio>

#include "cli/command.h"
#include "engine/environment.h"
#include "net/event_loop.h"

int main(int argc, char** argv) {
  using namespace baton;
  engine::prepare_process_environment(argv);
  net::ignore_sigpipe();

  CLI::App app("run a large language model on the computers you already own, together", "baton");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("baton ") + BATON_VERSION);
  app.set_help_all_flag("--help-all", "Print the help of all commands");
  app.footer(
      "Exit status: 0 done, 1 fault of baton, 2 wrong arguments, 3 not found, 4 not supported, 5 damaged file,\n"
      "6 input or output failed, 7 no room, 8 refused, 9 peer unreachable, 10 deadline passed, 11 peer broke the\n"
      "protocol, 130 interrupted");
  cli::Action chosen;
  cli::add_run(app, chosen);
  cli::add_node(app, chosen);
  cli::add_id(app, chosen);
  cli::add_bench(app, chosen);
  cli::add_logits(app, chosen);
  cli::add_tokenize(app, chosen);
  cli::add_synth(app, chosen);
  cli::add_demo(app, chosen);
  cli::add_manual(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : exit_code(ErrorCode::kInvalidArgument);
  }
  if (const auto done = chosen(); !done) {
    std::fprintf(stderr, "baton: %s\n", done.error().to_string().c_str());
    return exit_code(done.error().code);
  }
  return 0;
}
