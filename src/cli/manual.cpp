#include <CLI/CLI.hpp>

#include <cctype>
#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/help.h"
#include "cli/text_output.h"

namespace baton::cli {

namespace {

// In roff a dash is written \- and a line must not begin with a dot or a quote.
std::string roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n')) escaped += "\\&";
      escaped += c;
    }
  }
  return escaped;
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

void append_options(std::string& page, const CLI::App& app) {
  for (const OptionGroup& group : option_groups(app)) {
    if (!group.title.empty()) page += std::format(".SS {}\n", roff(group.title));
    for (const CLI::Option* option : group.options) {
      page += std::format(".TP\n.B {}\n{}\n", roff(option_title(*option)), roff(option_text(*option)));
    }
  }
}

std::string man_page(const CLI::App& root) {
  std::string page = ".TH BATON 1\n.SH NAME\nbaton \\- " + roff(root.get_description()) + "\n";
  page += ".SH SYNOPSIS\n.B baton\n.I COMMAND\n[options]\n";
  for (const CLI::App* command : root.get_subcommands({})) {
    page += std::format(".SH {}\n{}\n", upper(roff(command->get_name())), roff(command->get_description()));
    append_options(page, *command);
    if (const std::string footer = command->get_footer(); !footer.empty()) {
      page += std::format(".PP\n.nf\n{}\n.fi\n", roff(footer));
    }
  }
  page += std::format(".SH NOTES\n.nf\n{}\n.fi\n", roff(root.get_footer()));
  return page;
}

std::vector<std::string> long_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::vector<std::string> command_names(const CLI::App& root) {
  std::vector<std::string> names;
  for (const CLI::App* command : root.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

std::string bash_completion(const CLI::App& root) {
  std::string script =
      "_baton() {\n  local word=\"${COMP_WORDS[COMP_CWORD]}\" choices=\n  case \"${COMP_WORDS[1]}\" in\n";
  for (const CLI::App* command : root.get_subcommands({})) {
    script += std::format("    {}) choices=\"{}\" ;;\n", command->get_name(), joined(long_options(*command)));
  }
  script += std::format("    *) choices=\"{}\" ;;\n  esac\n", joined(command_names(root)));
  script += "  if [[ $COMP_CWORD -eq 1 ]]; then choices=\"" + joined(command_names(root)) + "\"; fi\n";
  script += "  COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n}\ncomplete -o default -F _baton baton\n";
  return script;
}

std::string zsh_completion(const CLI::App& root) {
  return "#compdef baton\nautoload -U +X bashcompinit && bashcompinit\n" + bash_completion(root);
}

// Inside single quotes fish knows two escapes.
std::string fish_quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string fish_completion(const CLI::App& root) {
  std::string script;
  for (const CLI::App* command : root.get_subcommands({})) {
    script += std::format("complete -c baton -n __fish_use_subcommand -a {} -d {}\n", command->get_name(),
                          fish_quoted(command->get_description()));
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        script +=
            std::format("complete -c baton -n '__fish_seen_subcommand_from {}' -l {}\n", command->get_name(), name);
      }
    }
  }
  return script;
}

}  // namespace

void add_manual(CLI::App& app, Action& chosen) {
  CLI::App* man = app.add_subcommand("man", "Print the manual page");
  man->footer("Example:\n  baton man | man -l -");
  man->callback([&app, &chosen] { chosen = [&app]() -> Result<void> { return print(man_page(app)); }; });

  CLI::App* completion = app.add_subcommand("completion", "Print a shell's completion script");
  auto shell = std::make_shared<std::string>();
  completion->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer("Example:\n  source <(baton completion bash)");
  completion->callback([&app, &chosen, shell] {
    chosen = [&app, shell]() -> Result<void> {
      const auto script = *shell == "bash"  ? bash_completion(app)
                          : *shell == "zsh" ? zsh_completion(app)
                                            : fish_completion(app);
      return print(script);
    };
  });
}

}  // namespace baton::cli
