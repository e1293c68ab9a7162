#include "store/store.h"

#include <algorithm>
#include <format>
#include <system_error>
#include <utility>
#include <variant>

#include "base/ascii.h"
#include "store/model_name.h"
#include "store/puller.h"
#include "store/short_names.h"

namespace baton::store {

namespace {

bool same(std::string_view left, std::string_view right) { return ascii_lower(left) == ascii_lower(right); }

// Whether a model is called so; a repository's name without a quantisation fits all that are here.
bool is_called(const StoredModel& model, std::string_view name) {
  return std::ranges::any_of(model.names, [&](const std::string& own) { return same(own, name); });
}

bool is_of_repository(const StoredModel& model, const HubName& hub) {
  const std::string whole = to_string(hub);
  const auto fits = [&](std::string_view text) {
    if (same(text, whole)) return true;
    return hub.quantisation.empty() && text.size() > whole.size() &&
           same(text.substr(0, whole.size() + 1), whole + ":");
  };
  return fits(model.source) || std::ranges::any_of(model.names, fits);
}

const StoredModel* find_by_name(const std::vector<StoredModel>& models, const ModelName& name) {
  const auto called = [&](const std::string& text) -> const StoredModel* {
    const auto found = std::ranges::find_if(models, [&](const StoredModel& model) { return is_called(model, text); });
    return found == models.end() ? nullptr : &*found;
  };
  if (const StoredModel* found = called(to_string(name))) return found;
  std::optional<HubName> hub;
  if (const auto* given = std::get_if<HubName>(&name)) hub = *given;
  if (const auto* given = std::get_if<ShortName>(&name)) {
    if (const StoredModel* found = called(to_string(complete(*given)))) return found;
    // The same to Ollama's clients.
    if (given->tag.empty() || given->tag == "latest") {
      const std::string other = given->tag.empty() ? given->family + ":latest" : given->family;
      if (const StoredModel* found = called(other)) return found;
    }
    hub = find_on_hub(*given);
  }
  if (!hub) return nullptr;
  const StoredModel* largest = nullptr;
  for (const StoredModel& model : models) {
    if (!is_of_repository(model, *hub)) continue;
    if (largest == nullptr || model.bytes > largest->bytes) largest = &model;
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

std::vector<std::string> names_without(const StoredModel& model, std::string_view text) {
  auto gone = std::ranges::find_if(model.names, [&](const std::string& name) { return same(name, text); });
  const auto parsed = parse_model_name(text);
  const auto* given = parsed ? std::get_if<ShortName>(&*parsed) : nullptr;
  if (gone == model.names.end() && given != nullptr) gone = std::ranges::find(model.names, to_string(complete(*given)));
  std::vector<std::string> left;
  if (gone == model.names.end()) return left;
  for (const std::string& name : model.names) {
    if (name != *gone) left.push_back(name);
  }
  return left;
}

Store::Store(StoreOptions options) : options_(std::move(options)), library_(options_.folder) {}

Result<std::vector<StoredModel>> Store::list() const {
  std::vector<StoredModel> models = TRY(library_.list());
  for (StoredModel& model : find_models(options_.found)) models.push_back(std::move(model));
  return models;
}

Result<StoredModel> Store::find(std::string_view text, Naming naming) const {
  if (naming == Naming::kAnything) {
    std::error_code error;
    const std::uint64_t bytes = std::filesystem::file_size(text, error);
    if (!error) return plain_file(std::string(text), bytes);
  }
  const std::vector<StoredModel> models = TRY(list());
  if (const StoredModel* found = TRY(find_by_digest(models, text))) return *found;
  const ModelName name = TRY(parse(text, naming));
  if (const auto* path = std::get_if<PathName>(&name)) {
    return fail(ErrorCode::kNotFound, "there is no such file", path->path);
  }
  if (const StoredModel* found = find_by_name(models, name)) return *found;
  // Where its name is the last part of an address.
  if (const auto* url = std::get_if<UrlName>(&name)) {
    const auto found = std::ranges::find(models, url->url, &StoredModel::source);
    if (found != models.end()) return *found;
  }
  return fail(ErrorCode::kNotFound,
              std::format("there is no model '{}' here; 'baton pull {}' gets it, 'baton ls' lists those there are",
                          text, text));
}

Result<GivenModel> Store::give(const std::string& name) const {
  const std::vector<StoredModel> models = TRY(library_.list());
  const StoredModel* found = TRY(find_by_digest(models, name));
  if (found == nullptr) found = find_by_name(models, TRY(parse_model_name(name)));
  if (found == nullptr) return fail(ErrorCode::kNotFound, std::format("it has no model '{}'", name));
  return GivenModel{{found->names, TRY(library_.read_manifest(*found->digest)).parts}, found->parts};
}

Result<StoredModel> Store::pull(std::string_view text, const PullOptions& options) const {
  Puller puller(library_, options_.hub, options);
  if (!options.member.empty()) return puller.pull_from_member(options.member, std::string(text));
  const ModelName name = TRY(parse(text, options.naming));
  auto here = find(text, options.naming);
  if (here || here.error().code != ErrorCode::kNotFound) return here;
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

Result<void> Store::remove(std::string_view text, Naming naming) const {
  const StoredModel model = TRY(find(text, naming));
  if (model.origin == Origin::kFile) {
    return fail(ErrorCode::kRefused, "is a file outside the model folder: remove it yourself", std::string(text));
  }
  if (model.origin != Origin::kOwn) {
    return fail(ErrorCode::kRefused,
                std::format("belongs to another program ({}), which has to remove it", origin_name(model.origin)),
                model.names.front());
  }
  const std::vector<std::string> left = names_without(model, text);
  if (left.empty()) return library_.remove(*model.digest);
  const auto gone =
      std::ranges::find_if(model.names, [&](const std::string& name) { return !std::ranges::contains(left, name); });
  return library_.remove_name(*gone);
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
