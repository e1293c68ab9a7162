#include "store/short_names.h"

#include <algorithm>

#include "store/short_names_table.h"

namespace baton::store {

namespace {

std::vector<ShortNameEntry> read_table(std::string_view text) {
  std::vector<ShortNameEntry> entries;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    const std::size_t tab = line.find('\t');
    const std::size_t slash = line.find('/', tab == std::string_view::npos ? 0 : tab);
    if (line.starts_with('#') || tab == std::string_view::npos || slash == std::string_view::npos) continue;
    entries.push_back({line.substr(0, tab), line.substr(tab + 1, slash - tab - 1), line.substr(slash + 1)});
  }
  return entries;
}

const ShortNameEntry* find_entry(std::string_view name) {
  const auto& all = short_names();
  const auto found = std::ranges::find(all, name, &ShortNameEntry::name);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

const std::vector<ShortNameEntry>& short_names() {
  static const std::vector<ShortNameEntry> entries = read_table(kShortNamesTable);
  return entries;
}

ShortName complete(const ShortName& name) {
  if (!name.tag.empty() && name.tag != "latest") return name;
  const std::string family = name.family + ":";
  for (const ShortNameEntry& entry : short_names()) {
    if (entry.name.starts_with(family)) return {name.family, std::string(entry.name.substr(family.size()))};
  }
  return name;
}

std::optional<HubName> find_on_hub(const ShortName& name) {
  const ShortName full = complete(name);
  if (const ShortNameEntry* entry = find_entry(to_string(full))) {
    return HubName{std::string(entry->owner), std::string(entry->repository), ""};
  }
  // "8b-q4_k_m": the longest tag that is known, and the rest is a quantisation.
  for (std::size_t dash = full.tag.rfind('-'); dash != std::string::npos && dash > 0;
       dash = full.tag.rfind('-', dash - 1)) {
    const ShortNameEntry* entry = find_entry(full.family + ":" + full.tag.substr(0, dash));
    if (entry != nullptr && dash + 1 < full.tag.size()) {
      return HubName{std::string(entry->owner), std::string(entry->repository), full.tag.substr(dash + 1)};
    }
  }
  return std::nullopt;
}

}  // namespace baton::store
