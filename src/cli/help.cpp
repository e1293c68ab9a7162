#include "cli/help.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <format>
#include <utility>
#include <vector>

namespace baton::cli {

namespace {

constexpr std::size_t kTitleColumns = 28;
constexpr std::size_t kLineColumns = 100;
// CLI11's name of the group that an option is in where nobody says otherwise; the help flags among them.
constexpr std::string_view kUsualGroup = "Options";

// What stands for the value. CLI11 knows types, and appends what a check says about itself.
std::string value_name(const CLI::Option& option) {
  std::string name = option.get_type_name();
  name.resize(std::min(name.find(':'), name.size()));
  if (name == "UINT" || name == "INT") return "N";
  return name == "FLOAT" ? "X" : name;
}

std::vector<std::string> wrapped(const std::string& text, std::size_t columns) {
  std::vector<std::string> lines(1);
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > columns) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    at = end + 1;
  }
  return lines;
}

std::string entry(const std::string& title, const std::string& text) {
  std::string out = "  " + title;
  const std::string margin(kTitleColumns, ' ');
  if (out.size() + 2 > kTitleColumns) {
    out += "\n" + margin;
  } else {
    out.resize(kTitleColumns, ' ');
  }
  bool first = true;
  for (const std::string& line : wrapped(text, kLineColumns - kTitleColumns)) {
    if (!std::exchange(first, false)) out += margin;
    out += line + "\n";
  }
  return out;
}

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string out = app->get_description() + "\n\n" + make_usage(app, std::move(name));
    for (const OptionGroup& group : option_groups(*app)) out += section(group);
    out += commands(*app);
    if (!app->get_footer().empty()) out += "\n" + app->get_footer() + "\n";
    if (mode != CLI::AppFormatMode::All) return out;
    for (const CLI::App* command : app->get_subcommands({})) {
      out += std::format("\n\n== {} ==\n\n", command->get_name());
      out += make_help(command, "baton " + command->get_name(), CLI::AppFormatMode::Normal);
    }
    return out;
  }

 private:
  static std::string section(const OptionGroup& group) {
    std::string out = group.title.empty() ? "\n" : "\n" + group.title + ":\n";
    for (const CLI::Option* option : group.options) out += entry(option_title(*option), option_text(*option));
    return out;
  }

  static std::string commands(const CLI::App& app) {
    std::string out;
    for (const CLI::App* command : app.get_subcommands({})) {
      out += entry(command->get_name(), command->get_description());
    }
    return out.empty() ? out : "\nCommands (each has --help with examples):\n" + out;
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() {
  auto formatter = std::make_shared<HelpFormatter>();
  formatter->label("SUBCOMMAND", "COMMAND");
  return formatter;
}

std::vector<OptionGroup> option_groups(const CLI::App& app) {
  std::vector<OptionGroup> found = {
      {"", app.get_options([](const CLI::Option* option) { return option->get_positional(); })}};
  // What every command has comes last.
  std::vector<std::string> titles = app.get_groups();
  std::ranges::stable_partition(titles, [](const std::string& title) { return title != kUsualGroup; });
  for (const std::string& title : titles) {
    found.push_back({title, app.get_options([&](const CLI::Option* option) {
                       return option->get_group() == title && option->nonpositional();
                     })});
  }
  std::erase_if(found, [](const OptionGroup& group) { return group.options.empty(); });
  return found;
}

std::string option_title(const CLI::Option& option) {
  if (option.get_positional()) return option.get_name(true, false);
  std::string names;
  for (const std::string& name : option.get_snames()) names += (names.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) names += (names.empty() ? "--" : ", --") + name;
  return option.get_type_size() == 0 ? names : names + " " + value_name(option);
}

std::string option_text(const CLI::Option& option) {
  std::string text = option.get_description();
  std::string value = option.get_default_str();
  // Lists are written as they are typed.
  if (value.size() > 1 && value.front() == '[' && value.back() == ']') value = value.substr(1, value.size() - 2);
  if (!value.empty()) text += std::format(" (default: {})", value);
  if (!option.get_envname().empty()) text += std::format(" (or ${})", option.get_envname());
  return text;
}

}  // namespace baton::cli
