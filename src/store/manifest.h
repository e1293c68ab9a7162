// What the model folder keeps of a model beside its files: docs/formats/model-folder.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"

namespace baton::store {

struct ManifestPart {
  std::string file;  // in the model's own folder
  std::uint64_t bytes = 0;
  Sha256 sha256;
  bool operator==(const ManifestPart&) const = default;
};

struct Manifest {
  std::vector<std::string> names = {};
  std::string source = {};
  std::int64_t pulled_s = 0;  // since 1970
  std::vector<ManifestPart> parts = {};

  // As plans and leases name the model.
  Sha256 digest() const;
  std::uint64_t bytes() const;
  bool operator==(const Manifest&) const = default;

  std::string to_json() const;
  // kCorrupt for what is no manifest, or names files that may not be named.
  static Result<Manifest> parse(std::string_view json);
};

inline constexpr std::string_view kManifestFile = "manifest.json";

}  // namespace baton::store
