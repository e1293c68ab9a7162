// A model on this machine's disk, as the store lists it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"

namespace baton::store {

// Whose folder the files lie in. Only what lies in our own is ever removed or renamed.
enum class Origin { kOwn, kOllama, kLmStudio, kHuggingFace, kFile };

constexpr std::string_view origin_name(Origin origin) {
  switch (origin) {
    case Origin::kOwn: return "baton";
    case Origin::kOllama: return "ollama";
    case Origin::kLmStudio: return "lm-studio";
    case Origin::kHuggingFace: return "hugging-face";
    case Origin::kFile: return "file";
  }
  return "";
}

struct StoredModel {
  std::vector<std::string> names = {};  // the first is the one to show; at least one
  Origin origin = Origin::kOwn;
  std::vector<std::filesystem::path> parts = {};  // in order; the first opens the model
  std::uint64_t bytes = 0;                        // of all parts
  // As plans and leases name the model. Nothing where it has not been computed: other programs' files.
  std::optional<Sha256> digest = {};
  std::string source = {};      // where it came from: "hf.co/OWNER/REPO:QUANT", a URL, "node spark"; may be empty
  std::int64_t modified_s = 0;  // since 1970
};

}  // namespace baton::store
