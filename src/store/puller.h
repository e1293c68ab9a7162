// One pull: from a name to a model in the library. For the sources of this room.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/download.h"
#include "store/library.h"
#include "store/model_taker.h"
#include "store/store.h"

namespace baton::store {

class Puller {
 public:
  Puller(const Library& library, const HubOptions& hub, const PullOptions& options)
      : library_(library), hub_(hub), options_(options) {}

  Result<StoredModel> pull_from_hub(const HubName& name, const std::string& called);
  Result<StoredModel> pull_from_url(const std::string& url);
  Result<StoredModel> pull_from_member(const std::string& node, const std::string& model);
  // Whoever of them has it; kNotFound where nobody has.
  Result<StoredModel> pull_from_members(const std::string& model);

  // Where it is here already, it gets these names, too. Nothing where it is not.
  Result<std::optional<StoredModel>> name_what_is_here(const Sha256& digest, const std::vector<std::string>& names);

 private:
  // What is wanted, before a byte has come.
  struct Wanted {
    Manifest manifest;                           // its parts' digests are filled in as they are known
    std::vector<std::optional<Sha256>> digests;  // of the parts, where the other side tells
    std::vector<Url> urls;                       // of the parts
  };

  Result<StoredModel> pull_files(Wanted wanted, const std::string& key);
  Result<Staging> stage(const std::string& key);
  Result<StoredModel> take(ModelTaker& taker, const Offer& offer, const std::string& called);
  Result<void> take_part(ModelTaker& taker, const Offer& offer, std::uint32_t index, const std::filesystem::path& path);
  // Whether an earlier pull has finished this part.
  Result<bool> is_here(const std::filesystem::path& path, const ManifestPart& part);
  TakenNames taken_names() const;
  Result<void> check_names(const Sha256& digest, const std::vector<std::string>& names) const;
  Result<StoredModel> finish(Staging staging, Manifest manifest);

  void begin(const std::string& from, std::uint64_t bytes_total);
  void begin_part(const ManifestPart& part, const std::optional<Sha256>& sha256);
  void end_part(const ManifestPart& part);
  void enter(PullPhase phase);
  void tell(std::uint64_t bytes_of_part);
  DownloadEvents events();

  const Library& library_;
  const HubOptions& hub_;
  const PullOptions& options_;
  PullProgress progress_;
  std::uint64_t bytes_before_part_ = 0;
  TimePoint next_telling_{};
};

}  // namespace baton::store
