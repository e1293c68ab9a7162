#include "store/library.h"

#include <algorithm>
#include <format>
#include <system_error>

#include "base/file.h"
#include "base/log.h"
#include "store/model_name.h"

namespace baton::store {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStagingFolder = "partial";
constexpr std::string_view kLockFile = ".lock";

Result<void> make_private_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return {};
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  if (error) return fail(ErrorCode::kIo, "cannot make the folder: " + error.message(), folder.string());
  return {};
}

// The digests that the folder's entries are called by; everything else in it is not a model.
std::vector<Sha256> digests_in(const fs::path& folder) {
  std::vector<Sha256> digests;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const auto digest = Sha256::parse(name);
    if (digest && digest->hex() == name) digests.push_back(*digest);
  }
  std::ranges::sort(digests);
  return digests;
}

bool has_name(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::any_of(names, [&](const std::string& own) { return same_name(own, name); });
}

}  // namespace

Result<void> Library::make() const { return make_private_folder(folder_); }

Result<Manifest> Library::read_manifest(const Sha256& digest) const {
  const fs::path path = model_folder(digest) / kManifestFile;
  auto manifest = Manifest::parse(TRY(read_text_file(path)));
  if (manifest && manifest->digest() != digest) {
    manifest = fail(ErrorCode::kCorrupt, "is the manifest of another model than its folder says");
  }
  if (!manifest) manifest.error().context = path.string();
  return manifest;
}

Result<StoredModel> Library::read(const Sha256& digest) const {
  const Manifest manifest = TRY(read_manifest(digest));
  StoredModel model{.names = manifest.names,
                    .origin = Origin::kOwn,
                    .parts = {},
                    .bytes = manifest.bytes(),
                    .digest = digest,
                    .source = manifest.source,
                    .modified_s = manifest.pulled_s};
  if (model.names.empty()) model.names.push_back(digest.hex().substr(0, 12));
  for (const ManifestPart& part : manifest.parts) {
    const fs::path path = model_folder(digest) / part.file;
    std::error_code error;
    const std::uint64_t bytes = fs::file_size(path, error);
    if (error || bytes != part.bytes) {
      return fail(ErrorCode::kCorrupt,
                  std::format("is missing or has another size than the {} bytes that were pulled: "
                              "remove the model with 'baton rm', and pull it again",
                              part.bytes),
                  path.string());
    }
    model.parts.push_back(path);
  }
  return model;
}

Result<std::vector<StoredModel>> Library::list() const {
  std::vector<StoredModel> models;
  for (const Sha256& digest : digests_in(folder_)) {
    auto model = read(digest);
    if (model) {
      models.push_back(std::move(*model));
    } else {
      log::warning("{}", model.error().to_string());
    }
  }
  std::ranges::sort(models, {}, [](const StoredModel& model) { return model.names.front(); });
  return models;
}

Result<Staging> Library::stage(const std::string& key) const {
  TRY(make());
  TRY(make_private_folder(folder_ / kStagingFolder));
  const fs::path folder = folder_ / kStagingFolder / key;
  while (true) {
    auto lock = make_private_folder(folder).and_then(
        [&] { return FileLock::try_take(folder / kLockFile, "another baton is pulling this model now"); });
    if (lock) return Staging{folder, *std::move(lock)};
    // Whoever had it may have adopted it a moment ago, and the folder is a model now.
    std::error_code error;
    const bool has_gone = lock.error().code != ErrorCode::kNoCapacity && !fs::exists(folder, error) && !error;
    if (!has_gone) return std::unexpected(std::move(lock.error()));
  }
}

Result<StoredModel> Library::adopt(Staging staging, const Manifest& manifest, TakenNames taken) const {
  const FileLock lock = TRY(FileLock::take(folder_ / kLockFile));
  const Sha256 digest = manifest.digest();
  if (taken == TakenNames::kRefuse) TRY(check_free(digest, manifest.names));
  std::error_code error;
  if (read(digest)) {
    // Two pulled it at the same time, from different places.
    for (const std::string& name : manifest.names) {
      Manifest known = TRY(read_manifest(digest));
      if (has_name(known.names, name)) continue;
      known.names.push_back(name);
      TRY(write(digest, known));
    }
    discard(staging);
  } else {
    TRY(write_file(staging.folder / kManifestFile, as_byte_span(manifest.to_json())));
    fs::remove_all(model_folder(digest), error);  // a damaged one
    // With the lock in it: without, somebody who waits for it would begin in the folder that is about to go.
    fs::rename(staging.folder, model_folder(digest), error);
    if (error) return fail(ErrorCode::kIo, "cannot rename into place: " + error.message(), staging.folder.string());
    fs::remove(model_folder(digest) / kLockFile, error);
  }
  TRY(take_from_others(digest, manifest.names));
  return read(digest);
}

void Library::discard(const Staging& staging) const {
  // First out of the way of whoever waits for the lock, and would begin in a folder that goes.
  const fs::path hidden = staging.folder.parent_path() / (".discarded-" + staging.folder.filename().string());
  std::error_code error;
  fs::remove_all(hidden, error);
  fs::rename(staging.folder, hidden, error);
  if (!error) fs::remove_all(hidden, error);
  if (error) log::warning("{}: cannot be removed: {}", staging.folder.string(), error.message());
}

Result<void> Library::write(const Sha256& digest, const Manifest& manifest) const {
  return write_file(model_folder(digest) / kManifestFile, as_byte_span(manifest.to_json()));
}

Result<void> Library::check_free(const Sha256& digest, const std::vector<std::string>& names) const {
  for (const Sha256& other : digests_in(folder_)) {
    if (other == digest) continue;
    const auto manifest = read_manifest(other);
    if (!manifest) continue;
    for (const std::string& name : names) {
      if (!has_name(manifest->names, name)) continue;
      return fail(ErrorCode::kNoCapacity, std::format("another model here is called '{}': give that one another name, "
                                                      "or delete it first",
                                                      name));
    }
  }
  return {};
}

Result<void> Library::take_from_others(const Sha256& digest, const std::vector<std::string>& names) const {
  for (const Sha256& other : digests_in(folder_)) {
    if (other == digest) continue;
    auto manifest = read_manifest(other);
    if (!manifest) continue;
    const auto gone = std::erase_if(manifest->names, [&](const auto& name) { return has_name(names, name); });
    if (gone > 0) TRY(write(other, *manifest));
  }
  return {};
}

Result<void> Library::add_name(const Sha256& digest, const std::string& name, TakenNames taken) const {
  TRY(make());
  const FileLock lock = TRY(FileLock::take(folder_ / kLockFile));
  if (taken == TakenNames::kRefuse) TRY(check_free(digest, {name}));
  Manifest manifest = TRY(read_manifest(digest));
  if (!has_name(manifest.names, name)) {
    manifest.names.push_back(name);
    TRY(write(digest, manifest));
  }
  return take_from_others(digest, {name});
}

Result<void> Library::remove_name(const Sha256& digest, const std::string& name) const {
  TRY(make());
  const FileLock lock = TRY(FileLock::take(folder_ / kLockFile));
  Manifest manifest = TRY(read_manifest(digest));
  if (std::erase(manifest.names, name) == 0) {
    return fail(ErrorCode::kNotFound, std::format("there is no model '{}'", name), folder_.string());
  }
  return manifest.names.empty() ? remove_files(digest) : write(digest, manifest);
}

Result<void> Library::remove(const Sha256& digest) const {
  TRY(make());
  const FileLock lock = TRY(FileLock::take(folder_ / kLockFile));
  return remove_files(digest);
}

Result<void> Library::remove_files(const Sha256& digest) const {
  // First out of sight, so that nobody finds half a model.
  const fs::path hidden = folder_ / (".removed-" + digest.hex());
  std::error_code error;
  fs::remove_all(hidden, error);
  fs::rename(model_folder(digest), hidden, error);
  if (!error) fs::remove_all(hidden, error);
  if (error) return fail(ErrorCode::kIo, "cannot remove: " + error.message(), model_folder(digest).string());
  return {};
}

}  // namespace baton::store
