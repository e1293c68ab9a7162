// baton's own model folder: a folder for each model, called by its digest, with the files and a manifest. The format is
// docs/formats/model-folder.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file_lock.h"
#include "base/result.h"
#include "store/manifest.h"
#include "store/stored_model.h"

namespace baton::store {

// Where a model's files are collected until all are here. What lies in it stays when this goes.
struct Staging {
  std::filesystem::path folder;
  FileLock lock;
};

// What becomes of a name that another model has.
enum class TakenNames {
  kMove,    // it goes over
  kRefuse,  // kNoCapacity, and nothing changes
};

class Library {
 public:
  explicit Library(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path& folder() const { return folder_; }

  // By name. Empty where the folder is not there yet.
  Result<std::vector<StoredModel>> list() const;
  Result<Manifest> read_manifest(const Sha256& digest) const;

  // For what is called by `key`, a digest's digits. kNoCapacity while somebody else collects it.
  Result<Staging> stage(const std::string& key) const;
  // What lies there is of no use. Another may stage the same from now on.
  void discard(const Staging& staging) const;
  // Everything is there and verified: a model of its own from now on. A model that is there already gets the names.
  Result<StoredModel> adopt(Staging staging, const Manifest& manifest, TakenNames taken = TakenNames::kMove) const;
  // kNoCapacity where another model than this has one of these names.
  Result<void> check_free(const Sha256& digest, const std::vector<std::string>& names) const;

  // kNotFound where there is none of that name or digest.
  Result<void> add_name(const Sha256& digest, const std::string& name, TakenNames taken = TakenNames::kMove) const;
  Result<void> remove_name(const Sha256& digest, const std::string& name) const;
  // With all its names.
  Result<void> remove(const Sha256& digest) const;

 private:
  std::filesystem::path model_folder(const Sha256& digest) const { return folder_ / digest.hex(); }
  Result<void> make() const;
  Result<StoredModel> read(const Sha256& digest) const;
  Result<void> write(const Sha256& digest, const Manifest& manifest) const;
  Result<void> take_from_others(const Sha256& digest, const std::vector<std::string>& names) const;
  Result<void> remove_files(const Sha256& digest) const;

  std::filesystem::path folder_;
};

}  // namespace baton::store
