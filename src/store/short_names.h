// The short names that baton knows, and the hub's repositories that they stand for: short_names.tsv.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/model_name.h"

namespace baton::store {

struct ShortNameEntry {
  std::string_view name;        // "qwen3:8b"
  std::string_view owner;       // "Qwen"
  std::string_view repository;  // "Qwen3-8B-GGUF"
};

// All of them, in the table's order. Of a family without a tag the first is meant.
const std::vector<ShortNameEntry>& short_names();

// A name in full: "qwen3" is "qwen3:8b"; one that is not in the table stays as it is.
ShortName complete(const ShortName& name);

// What it stands for. A tag may end in a quantisation: "qwen3:8b-q4_k_m". Nothing where it is not in the table.
std::optional<HubName> find_on_hub(const ShortName& name);

}  // namespace baton::store
