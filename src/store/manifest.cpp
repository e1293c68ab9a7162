#include "store/manifest.h"

#include <format>
#include <glaze/glaze.hpp>

#include "model/digest_cache.h"
#include "store/model_name.h"

namespace baton::store {

// The manifest as JSON has it.
struct ManifestPartJson {
  std::string file;
  std::uint64_t bytes = 0;
  std::string sha256;
};
struct ManifestJson {
  int version = 1;
  std::vector<std::string> names;
  std::string source;
  std::int64_t pulled_s = 0;
  std::string digest;
  std::vector<ManifestPartJson> parts;
};

namespace {

constexpr int kManifestVersion = 1;
constexpr std::size_t kMaxFileParts = 10'000;
constexpr glz::opts kReadManifest{.error_on_unknown_keys = false};

std::unexpected<Error> damaged(std::string why) {
  return fail(ErrorCode::kCorrupt, "is no manifest of a model: " + std::move(why));
}

}  // namespace

Sha256 Manifest::digest() const {
  std::vector<Sha256> digests;
  for (const ManifestPart& part : parts) digests.push_back(part.sha256);
  return model::digest_of_parts(digests);
}

std::uint64_t Manifest::bytes() const {
  std::uint64_t sum = 0;
  for (const ManifestPart& part : parts) sum += part.bytes;
  return sum;
}

std::string Manifest::to_json() const {
  ManifestJson json{kManifestVersion, names, source, pulled_s, digest().hex(), {}};
  for (const ManifestPart& part : parts) json.parts.push_back({part.file, part.bytes, part.sha256.hex()});
  return glz::write<glz::opts{.prettify = true}>(json).value_or("") + "\n";
}

Result<Manifest> Manifest::parse(std::string_view text) {
  ManifestJson json;
  if (const auto error = glz::read<kReadManifest>(json, text)) return damaged(glz::format_error(error, text));
  if (json.version != kManifestVersion)
    return damaged(std::format("its version is {}, not {}", json.version, kManifestVersion));
  if (json.parts.empty() || json.parts.size() > kMaxFileParts) return damaged("it has no parts");
  Manifest manifest{.source = std::move(json.source), .pulled_s = json.pulled_s};
  for (std::string& name : json.names) {
    if (!is_plain_name(name)) return damaged("one of its names is none");
    manifest.names.push_back(std::move(name));
  }
  for (ManifestPartJson& part : json.parts) {
    if (!is_plain_file_name(part.file)) return damaged("one of its files has a name that leads elsewhere");
    const auto digest = Sha256::parse(part.sha256);
    if (!digest) return damaged("one of its digests is none");
    manifest.parts.push_back({std::move(part.file), part.bytes, *digest});
  }
  return manifest;
}

}  // namespace baton::store
