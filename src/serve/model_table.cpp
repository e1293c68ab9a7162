#include "serve/model_table.h"

#include <algorithm>
#include <format>
#include <optional>
#include <utility>
#include <variant>

#include "store/model_name.h"
#include "store/short_names.h"

namespace baton::serve {

namespace {

bool has_name(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::any_of(names, [&](const std::string& own) { return store::same_name(own, name); });
}

// Those that no other model has.
Result<std::vector<std::string>> free_names(const ModelTable::List& list, const ModelEntry& entry,
                                            const std::vector<std::string>& names) {
  std::vector<std::string> left;
  if (entry.stay == Stay::kAlways) left.push_back(entry.served().id());
  for (const std::string& name : names) {
    const bool taken = std::ranges::any_of(list, [&](const ModelTable::Listed& listed) {
      return listed.entry.get() != &entry && has_name(listed.names, name);
    });
    if (!taken && !has_name(left, name)) left.push_back(name);
  }
  if (!left.empty()) return left;
  return fail(ErrorCode::kInvalidArgument,
              std::format("another model is served as '{}' already", names.empty() ? "" : names.front()));
}

}  // namespace

std::shared_ptr<const ModelTable::List> ModelTable::list() const {
  const std::lock_guard lock(mutex_);
  return list_;
}

ModelTable::Found ModelTable::find(std::string_view name) const {
  const auto all = list();
  const auto first = [&](const auto& fits) -> Found {
    for (const Listed& listed : *all) {
      const auto own = std::ranges::find_if(listed.names, fits);
      if (own != listed.names.end()) return {listed.entry, *own};
    }
    return {};
  };
  // As it is written first: what the node was started with may be "x" and "x:latest".
  if (Found found = first([&](const std::string& own) { return own == name; }); found.entry) return found;
  if (Found found = first([&](const std::string& own) { return store::same_name(own, name); }); found.entry)
    return found;
  const auto parsed = store::parse_model_name(name);
  if (!parsed) return {};
  std::optional<store::HubName> hub;
  if (const auto* given = std::get_if<store::HubName>(&*parsed)) hub = *given;
  if (const auto* given = std::get_if<store::ShortName>(&*parsed)) {
    const std::string whole = store::to_string(store::complete(*given));
    if (Found found = first([&](const std::string& own) { return store::same_name(own, whole); }); found.entry)
      return found;
    hub = store::find_on_hub(*given);
  }
  if (!hub) return {};
  return first([&](const std::string& own) { return store::is_of_repository(own, *hub); });
}

std::shared_ptr<const ModelEntry> ModelTable::find_file(const std::filesystem::path& file) const {
  const auto all = list();
  const auto found = std::ranges::find_if(*all, [&](const Listed& listed) {
    std::error_code not_there;
    return std::filesystem::equivalent(listed.entry->served().model().path(), file, not_there);
  });
  return found == all->end() ? nullptr : found->entry;
}

std::string ModelTable::name_of(const ModelEntry& entry) const {
  const auto all = list();
  const auto found = std::ranges::find(*all, &entry, [](const Listed& listed) { return listed.entry.get(); });
  return found == all->end() ? entry.served().id() : found->names.front();
}

Result<void> ModelTable::add(std::shared_ptr<const ModelEntry> entry, std::vector<std::string> names) {
  const std::lock_guard lock(mutex_);
  names = TRY(free_names(*list_, *entry, names));
  auto next = std::make_shared<List>(*list_);
  next->push_back({std::move(names), std::move(entry)});
  list_ = std::move(next);
  return {};
}

Result<void> ModelTable::rename(const ModelEntry& entry, std::vector<std::string> names) {
  const std::lock_guard lock(mutex_);
  names = TRY(free_names(*list_, entry, names));
  auto next = std::make_shared<List>(*list_);
  for (Listed& listed : *next) {
    if (listed.entry.get() == &entry) listed.names = names;
  }
  list_ = std::move(next);
  return {};
}

void ModelTable::remove(const ModelEntry& entry) {
  const std::lock_guard lock(mutex_);
  auto next = std::make_shared<List>(*list_);
  std::erase_if(*next, [&](const Listed& listed) { return listed.entry.get() == &entry; });
  list_ = std::move(next);
}

}  // namespace baton::serve
