// The commands that look after the models on this machine: pull, ls, cp, rm.
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <format>
#include <memory>

#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/text_output.h"
#include "node/kept_folder.h"

namespace baton::cli {

// A model as --json prints it.
struct ModelJson {
  std::string name;
  std::vector<std::string> names;
  std::string origin;
  std::string digest;
  std::string source;
  std::uint64_t bytes = 0;
  std::int64_t modified_s = 0;
  std::vector<std::string> files;
};

namespace {

constexpr std::size_t kDigestDigits = 12;

struct StoreFlags {
  std::string model;
  std::vector<std::string> models;
  std::string new_name;
  std::string from;
  OutputFormat format = OutputFormat::kText;
  LinkFlags link;
};

ModelJson json_of(const store::StoredModel& model) {
  ModelJson json{.name = model.names.front(),
                 .names = model.names,
                 .origin = std::string(store::origin_name(model.origin)),
                 .digest = model.digest ? model.digest->hex() : "",
                 .source = model.source,
                 .bytes = model.bytes,
                 .modified_s = model.modified_s,
                 .files = {}};
  for (const auto& part : model.parts) json.files.push_back(part.string());
  return json;
}

std::string day_text(std::int64_t seconds_since_1970) {
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds_since_1970)};
  return seconds_since_1970 == 0 ? "-" : std::format("{:%Y-%m-%d}", time);
}

Result<void> run_pull(const StoreFlags& flags) {
  PullSource source;
  if (flags.from == "hub") {
    source.from = store::PullFrom::kHub;
  } else {
    source.member = flags.from;
  }
  const store::StoredModel model = TRY(pull_model(flags.model, flags.link, MemoryOf::kCluster, source));
  if (flags.format == OutputFormat::kJson) return print(glz::write_json(json_of(model)).value_or("{}") + "\n");
  return print(std::format("{} {}\n", model.names.front(), model.parts.front().string()));
}

Result<void> run_list(const StoreFlags& flags) {
  const store::Store store = TRY(open_store(flags.link));
  const std::vector<store::StoredModel> models = TRY(store.list());
  if (flags.format == OutputFormat::kJson) {
    std::vector<ModelJson> list;
    for (const store::StoredModel& model : models) list.push_back(json_of(model));
    return print(glz::write_json(list).value_or("[]") + "\n");
  }
  if (models.empty()) {
    // Said to a program's log as well: an empty list alone looks like a failure.
    std::fputs("baton: there are no models here yet: 'baton pull qwen3:8b' gets one\n", stderr);
    return {};
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "SIZE", "DIGEST", "PULLED", "WHERE"}};
  for (const store::StoredModel& model : models) {
    for (const std::string& name : model.names) {
      rows.push_back({name, size_text(model.bytes), model.digest ? model.digest->hex().substr(0, kDigestDigits) : "-",
                      day_text(model.modified_s), std::string(store::origin_name(model.origin))});
    }
  }
  return print(table_text(rows));
}

Result<void> run_remove(const StoreFlags& flags) {
  const store::Store store = TRY(open_store(flags.link));
  const std::filesystem::path kept = node::KeptFolder::path_in(TRY(flags.link.folder()));
  for (const std::string& name : flags.models) {
    const store::Removal removal = TRY(store.plan_removal(name));
    TRY(store.remove(removal));
    // What was read with it is of no use any more.
    const bool gone = removal.name.empty() || removal.names_left.empty();
    if (gone && removal.model.digest) TRY(node::KeptFolder::remove_model(kept, *removal.model.digest));
  }
  return {};
}

Result<void> run_copy(const StoreFlags& flags) {
  const store::Store store = TRY(open_store(flags.link));
  return store.copy(flags.model, flags.new_name);
}

}  // namespace

void add_models(CLI::App& app, Action& chosen) {
  {
    auto flags = std::make_shared<StoreFlags>();
    CLI::App* command = app.add_subcommand("pull", "Get a model, from a node of the cluster or from the hub");
    command->add_option("MODEL", flags->model, "A name such as qwen3:8b, hf.co/OWNER/REPO[:QUANT], a URL, or NODE/NAME")
        ->required();
    command
        ->add_option("--from", flags->from,
                     "The node to get it from, or 'hub'; by default whichever node has it, else the hub")
        ->type_name("NODE");
    add_json_flag(*command, flags->format, "Print one JSON object at the end");
    flags->link.add_home_to(*command);
    command->footer(
        "Without a QUANT, the largest up to Q8_0 that the cluster's largest machine has memory for. What breaks off "
        "goes on\n"
        "with the same command; every file is checked by its SHA-256. HF_TOKEN, HF_ENDPOINT, https_proxy and no_proxy "
        "are\n"
        "heeded; BATON_MODELS names another model folder.\n\n"
        "Examples:\n"
        "  baton pull qwen3:8b\n"
        "  baton pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M\n"
        "  baton pull spark/qwen3:8b   # from the node spark of this machine's cluster");
    command->callback([&chosen, flags] { chosen = [flags] { return run_pull(*flags); }; });
  }
  {
    auto flags = std::make_shared<StoreFlags>();
    CLI::App* command = app.add_subcommand("ls", "List the models on this machine");
    add_json_flag(*command, flags->format, "Print a JSON array");
    flags->link.add_home_to(*command);
    command->footer(
        "Models in the caches of Ollama, LM Studio and Hugging Face are listed too, and used where they lie.\n\n"
        "Example:\n  baton ls --json");
    command->callback([&chosen, flags] { chosen = [flags] { return run_list(*flags); }; });
  }
  {
    auto flags = std::make_shared<StoreFlags>();
    CLI::App* command = app.add_subcommand("cp", "Give a model one more name");
    command->add_option("MODEL", flags->model, "A model of 'baton ls'")->required();
    command->add_option("NAME", flags->new_name, "Its new name")->required();
    flags->link.add_home_to(*command);
    command->footer("No file is copied.\n\nExample:\n  baton cp qwen3:8b my-model");
    command->callback([&chosen, flags] { chosen = [flags] { return run_copy(*flags); }; });
  }
  {
    auto flags = std::make_shared<StoreFlags>();
    CLI::App* command = app.add_subcommand("rm", "Remove models from this machine");
    command->add_option("MODEL", flags->models, "Names or digests of 'baton ls'")->required();
    flags->link.add_home_to(*command);
    command->footer(
        "With a model's last name its files go, too. Other programs' models are never touched.\n\n"
        "Example:\n  baton rm qwen3:8b");
    command->callback([&chosen, flags] { chosen = [flags] { return run_remove(*flags); }; });
  }
}

}  // namespace baton::cli
