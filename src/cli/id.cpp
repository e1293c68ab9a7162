#include <CLI/CLI.hpp>

#include <memory>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/text_output.h"

namespace baton::cli {

void add_id(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<LinkFlags>();
  CLI::App* command = app.add_subcommand("id", "Print the fingerprint of this machine's key");
  flags->add_home_to(*command);
  command->footer("Example:\n  baton node model.gguf --trust $(ssh mac baton id)");
  command->callback([&chosen, flags] {
    chosen = [flags]() -> Result<void> {
      const net::Identity identity = TRY(flags->identity());
      return print(identity.fingerprint().to_string() + "\n");
    };
  });
}

}  // namespace baton::cli
