// `baton key`: who may ask the API from other machines.
#include <CLI/CLI.hpp>

#include <chrono>
#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/text_output.h"
#include "cluster/folder.h"
#include "serve/api_keys.h"

namespace baton::cli {

namespace {

enum class KeyTask { kCreate, kList, kRemove };

struct KeyFlags {
  std::string task;
  std::string name;
  LinkFlags link;
};

Result<KeyTask> task_of(const KeyFlags& flags) {
  const bool wants_name = flags.task != "ls";
  if (wants_name && flags.name.empty()) {
    return fail(ErrorCode::kInvalidArgument, std::format("'baton key {}' needs the key's name", flags.task));
  }
  if (!wants_name && !flags.name.empty()) {
    return fail(ErrorCode::kInvalidArgument, "'baton key ls' lists all keys and takes no name");
  }
  return flags.task == "create" ? KeyTask::kCreate : flags.task == "rm" ? KeyTask::kRemove : KeyTask::kList;
}

std::string list_of(const std::vector<serve::ApiKey>& keys) {
  std::string text;
  for (const serve::ApiKey& key : keys) {
    const std::chrono::sys_seconds made{std::chrono::seconds(key.created_s)};
    text += std::format("{:%F %R}  {}\n", made, key.name);
  }
  return text;
}

Result<void> run_key(const KeyFlags& flags) {
  const KeyTask task = TRY(task_of(flags));
  const std::filesystem::path folder = TRY(flags.link.folder());
  const std::filesystem::path book = serve::key_book_path(folder);
  switch (task) {
    case KeyTask::kCreate: {
      // Makes it where there is none yet.
      TRY(cluster::Folder::open(folder));
      TRY(print(TRY(serve::create_api_key(book, flags.name)) + "\n"));
      remark("it is not shown again; clients send it as 'Authorization: Bearer KEY'\n");
      return {};
    }
    case KeyTask::kList: return print(list_of(TRY(serve::read_key_book(book))));
    case KeyTask::kRemove: break;
  }
  return serve::remove_api_key(book, flags.name);
}

}  // namespace

void add_key(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<KeyFlags>();
  CLI::App* command = app.add_subcommand("key", "Make, list and remove the keys of those who may ask the API");
  command->add_option("TASK", flags->task, "create, ls or rm")
      ->required()
      ->check(CLI::IsMember({"create", "ls", "rm"}));
  command->add_option("NAME", flags->name, "Whose key it is");
  flags->link.add_home_to(*command);
  command->footer(
      "A key is shown once, when it is made. A node that runs takes a new one at once, and a removed one no more.\n\n"
      "Examples:\n"
      "  baton key create laptop\n"
      "  baton key ls\n"
      "  baton key rm laptop");
  command->callback([&chosen, flags] { chosen = [flags] { return run_key(*flags); }; });
}

}  // namespace baton::cli
