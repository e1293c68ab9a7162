// How --help looks: plain notation, defaults behind the sentences, lines that fit a terminal.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class FormatterBase;
class Option;
}  // namespace CLI

namespace baton::cli {

std::shared_ptr<CLI::FormatterBase> help_formatter();

// Options that belong together, under their title; arguments without a dash first and with none.
struct OptionGroup {
  std::string title;
  std::vector<const CLI::Option*> options;
};
// In the order in which --help prints them, without empty ones.
std::vector<OptionGroup> option_groups(const CLI::App& app);

// "-n, --predict N"; a positional's name alone.
std::string option_title(const CLI::Option& option);
// What it is for, with its default where it has one: "Tokens to generate at most (default: 128)".
std::string option_text(const CLI::Option& option);

}  // namespace baton::cli
