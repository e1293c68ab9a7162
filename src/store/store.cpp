#include "store/store.h"

#include <algorithm>
#include <format>
#include <iterator>
#include <system_error>
#include <utility>
#include <variant>

#include "base/ascii.h"
#include "store/model_name.h"
#include "store/puller.h"
#include "store/short_names.h"

namespace baton::store {

namespace {

bool same_letters(std::string_view left, std::string_view right) { return ascii_lower(left) == ascii_lower(right); }

// A model, and the name of its own that it was found by; none where the text means where it came from.
struct Match {
  const StoredModel* model = nullptr;
  std::string name = {};
};

bool came_from(const StoredModel& model, const HubName& hub) {
  const auto fits = [&](std::string_view text) { return is_of_repository(text, hub); };
  return fits(model.source) || std::ranges::any_of(model.names, fits);
}

bool came_from(const StoredModel& model, const ModelName& place) {
  if (const auto* hub = std::get_if<HubName>(&place)) return came_from(model, *hub);
  if (const auto* url = std::get_if<UrlName>(&place)) return model.source == url->url;
  const auto* name = std::get_if<ShortName>(&place);
  const auto hub = name == nullptr ? std::nullopt : find_on_hub(*name);
  return hub && came_from(model, *hub);
}

Match find_called(const std::vector<StoredModel>& models, const std::string& text) {
  // As it is written first: an older folder may have "x" and "x:latest".
  for (const auto& fits : {same_letters, same_name}) {
    for (const StoredModel& model : models) {
      const auto own = std::ranges::find_if(model.names, [&](const std::string& name) { return fits(name, text); });
      if (own != model.names.end()) return {&model, *own};
    }
  }
  return {};
}

Match find_by_name(const std::vector<StoredModel>& models, const ModelName& name) {
  if (Match found = find_called(models, to_string(name)); found.model != nullptr) return found;
  std::optional<HubName> hub;
  if (const auto* given = std::get_if<HubName>(&name)) hub = *given;
  if (const auto* given = std::get_if<ShortName>(&name)) {
    if (Match found = find_called(models, to_string(complete(*given))); found.model != nullptr) return found;
    hub = find_on_hub(*given);
  }
  Match largest;
  if (!hub) return largest;
  for (const StoredModel& model : models) {
    if (!came_from(model, *hub)) continue;
    if (largest.model == nullptr || model.bytes > largest.model->bytes) largest.model = &model;
  }
  return largest;
}

// Null where the text is no digest, or none of these models'.
Result<const StoredModel*> find_by_digest(const std::vector<StoredModel>& models, std::string_view text) {
  const auto digits = digest_digits(text);
  const StoredModel* found = nullptr;
  for (const StoredModel& model : models) {
    if (!digits || !model.digest || !model.digest->hex().starts_with(*digits)) continue;
    if (found != nullptr) {
      return fail(ErrorCode::kInvalidArgument, std::format("several models' digests begin with '{}'", *digits));
    }
    found = &model;
  }
  return found;
}

StoredModel plain_file(const std::string& path, std::uint64_t bytes) {
  return {.names = {path},
          .origin = Origin::kFile,
          .parts = {path},
          .bytes = bytes,
          .digest = std::nullopt,
          .source = path,
          .modified_s = 0};
}

// How a pull by this name would have called a model of ours that came from where the name leads; empty where it is
// called so.
std::string name_by_place(const StoredModel& model, const ModelName& name) {
  if (const auto* given = std::get_if<ShortName>(&name)) return to_string(complete(*given));
  const auto* hub = std::get_if<HubName>(&name);
  if (hub == nullptr || !is_of_repository(model.source, *hub)) return {};
  return std::ranges::contains(model.names, model.source) ? std::string() : model.source;
}

Result<ModelName> parse(std::string_view text, Naming naming) {
  ModelName name = TRY(parse_model_name(text));
  const bool leads_elsewhere = std::holds_alternative<PathName>(name) || std::holds_alternative<UrlName>(name);
  if (naming == Naming::kNamesAlone && leads_elsewhere) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' is a path or an address: here a model is named, such as qwen3:8b or hf.co/OWNER/REPO",
                            to_string(name)));
  }
  return name;
}

}  // namespace

Store::Store(StoreOptions options) : options_(std::move(options)), library_(options_.folder) {}

Result<std::vector<StoredModel>> Store::list() const {
  std::vector<StoredModel> models = TRY(library_.list());
  for (StoredModel& model : find_models(options_.found)) models.push_back(std::move(model));
  return models;
}

Result<Store::Found> Store::look_for(std::string_view text, Naming naming) const {
  if (naming == Naming::kAnything) {
    std::error_code error;
    const std::uint64_t bytes = std::filesystem::file_size(text, error);
    if (!error) return Found{.model = plain_file(std::string(text), bytes), .by = FoundBy::kPlace};
  }
  const std::vector<StoredModel> models = TRY(list());
  if (const StoredModel* found = TRY(find_by_digest(models, text))) {
    return Found{.model = *found, .by = FoundBy::kDigest};
  }
  const ModelName name = TRY(parse(text, naming));
  if (const auto* path = std::get_if<PathName>(&name)) {
    return fail(ErrorCode::kNotFound, "there is no such file", path->path);
  }
  if (Match found = find_by_name(models, name); found.model != nullptr) {
    const FoundBy by = found.name.empty() ? FoundBy::kPlace : FoundBy::kName;
    return Found{.model = *found.model, .by = by, .name = std::move(found.name)};
  }
  // Where its name is the last part of an address.
  if (const auto* url = std::get_if<UrlName>(&name)) {
    const auto found = std::ranges::find(models, url->url, &StoredModel::source);
    if (found != models.end()) return Found{.model = *found, .by = FoundBy::kPlace};
  }
  return fail(ErrorCode::kNotFound,
              std::format("there is no model '{}' here; 'baton pull {}' gets it, 'baton ls' lists those there are",
                          text, text));
}

Result<StoredModel> Store::find(std::string_view text, Naming naming) const {
  return TRY(look_for(text, naming))
  .model;
}

Result<GivenModel> Store::give(const std::string& name) const {
  const std::vector<StoredModel> models = TRY(library_.list());
  const StoredModel* found = TRY(find_by_digest(models, name));
  if (found == nullptr) found = find_by_name(models, TRY(parse_model_name(name))).model;
  if (found == nullptr) return fail(ErrorCode::kNotFound, std::format("it has no model '{}'", name));
  return GivenModel{{found->names, TRY(library_.read_manifest(*found->digest)).parts}, found->parts};
}

Result<StoredModel> Store::pull(std::string_view text, const PullOptions& options) const {
  Puller puller(library_, options_.hub, options);
  if (!options.member.empty()) return puller.pull_from_member(options.member, std::string(text));
  const ModelName name = TRY(parse(text, options.naming));
  auto here = look_for(text, options.naming);
  if (!here && here.error().code != ErrorCode::kNotFound) return std::unexpected(std::move(here.error()));
  if (here) {
    const bool is_ours_by_place = here->by == FoundBy::kPlace && here->model.origin == Origin::kOwn;
    const std::string missing = is_ours_by_place ? name_by_place(here->model, name) : "";
    if (missing.empty()) return std::move(here->model);
    // Whoever pulls it asks for it by that name then.
    if (auto named = TRY(puller.name_what_is_here(*here->model.digest, {missing}))) return *std::move(named);
  }
  if (const auto* node = std::get_if<NodeName>(&name)) return puller.pull_from_member(node->node, node->model);
  if (const auto* path = std::get_if<PathName>(&name)) {
    return fail(ErrorCode::kNotFound, "there is no such file, and a path cannot be pulled", path->path);
  }
  if (const auto* url = std::get_if<UrlName>(&name)) return puller.pull_from_url(url->url);
  std::optional<HubName> hub;
  std::string called;
  if (const auto* given = std::get_if<HubName>(&name)) hub = *given;
  if (const auto* given = std::get_if<ShortName>(&name)) {
    hub = find_on_hub(*given);
    called = to_string(complete(*given));
  }
  if (options.from != PullFrom::kHub) {
    auto taken = puller.pull_from_members(called.empty() ? to_string(name) : called);
    const bool nobody_has_it = !taken && taken.error().code == ErrorCode::kNotFound;
    if (!nobody_has_it || options.from == PullFrom::kMembers) return taken;
  }
  if (!hub) {
    std::string known;
    for (const ShortNameEntry& entry : short_names()) {
      if (entry.name.starts_with(std::get<ShortName>(name).family + ":")) {
        known += std::format("{}{}", known.empty() ? "" : ", ", entry.name);
      }
    }
    return fail(ErrorCode::kNotFound,
                std::format("'{}' is no name that baton knows{}; hf.co/OWNER/REPO names any repository of GGUF files",
                            text, known.empty() ? "" : " (but " + known + ")"));
  }
  return puller.pull_from_hub(*hub, called);
}

Result<Removal> Store::plan_removal(std::string_view text, Naming naming) const {
  Found found = TRY(look_for(text, naming));
  const StoredModel& model = found.model;
  if (model.origin == Origin::kFile) {
    return fail(ErrorCode::kRefused, "is a file outside the model folder: remove it yourself", std::string(text));
  }
  if (model.origin != Origin::kOwn) {
    return fail(ErrorCode::kRefused,
                std::format("belongs to another program ({}), which has to remove it", origin_name(model.origin)),
                model.names.front());
  }
  Removal removal{.model = model, .name = std::move(found.name), .names_left = {}};
  if (found.by == FoundBy::kName) {
    std::ranges::remove_copy(model.names, std::back_inserter(removal.names_left), removal.name);
  }
  if (found.by == FoundBy::kPlace) TRY(check_place_means_one(text));
  return removal;
}

// A name that somebody chose for what came from there is not taken away by another.
Result<void> Store::check_place_means_one(std::string_view text) const {
  const ModelName place = TRY(parse_model_name(text));
  std::vector<std::string> names;
  for (StoredModel& model : TRY(library_.list())) {
    if (came_from(model, place)) std::ranges::move(model.names, std::back_inserter(names));
  }
  const bool is_the_place_itself = !std::holds_alternative<ShortName>(place);
  if (is_the_place_itself && names.size() <= 1) return {};
  std::string all;
  for (const std::string& name : names) all += std::format("{}'{}'", all.empty() ? "" : ", ", name);
  if (is_the_place_itself) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("from '{}' came what has several names: remove {}, each by itself", text, all));
  }
  return fail(ErrorCode::kNotFound,
              std::format("no model is called '{}' here; what came from the same place is called {}", text, all));
}

Result<void> Store::remove(const Removal& removal) const {
  if (removal.name.empty()) return library_.remove(*removal.model.digest);
  return library_.remove_name(*removal.model.digest, removal.name);
}

Result<void> Store::remove(std::string_view text, Naming naming) const {
  return remove(TRY(plan_removal(text, naming)));
}

Result<void> Store::copy(std::string_view from, std::string_view to, Naming naming) const {
  const StoredModel model = TRY(find(from, naming));
  const ModelName name = TRY(parse_model_name(to));
  if (!is_plain_name(to) || std::holds_alternative<PathName>(name) || digest_digits(to)) {
    return fail(ErrorCode::kInvalidArgument, std::format("'{}' cannot be a model's name", to));
  }
  if (model.origin != Origin::kOwn) {
    return fail(ErrorCode::kRefused, "only models of baton's own folder can have more names", std::string(from));
  }
  return library_.add_name(*model.digest, to_string(name));
}

}  // namespace baton::store
