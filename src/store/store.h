// The models of this machine: those in baton's own model folder, and those of other programs that are found and used
// where they lie. Pulls what is missing from a member of the cluster or from the hub.
//
// Any thread may call any member, several at once: the folder is the truth, each call reads it. Several processes may
// share it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/found_models.h"
#include "store/hub.h"
#include "store/library.h"
#include "store/model_giver.h"
#include "store/peers.h"
#include "store/progress.h"
#include "store/stored_model.h"

namespace baton::store {

struct StoreOptions {
  // baton's model folder, made at first use for its owner only (0700).
  std::filesystem::path folder;
  // Where other programs keep theirs.
  FoundFolders found = FoundFolders::of_this_user();
  HubOptions hub = HubOptions::from_environment();
};

// Which places may be asked for a model that is not here.
enum class PullFrom { kMembersThenHub, kMembers, kHub };

// What a text may say where a model is named.
enum class Naming {
  kAnything,  // also a file's path, or an address
  // kInvalidArgument for those: of somebody who may not have any file read, or any address fetched. What is pulled for
  // them takes no name from another model: kNoCapacity.
  kNamesAlone,
};

// What becomes of a pull while somebody else pulls the same, perhaps by another name.
enum class WhenPulled {
  kFail,  // kNoCapacity
  kWait,  // it ends with that one, or goes on where that one has stopped
};

struct PullOptions {
  // Without a quantisation named, the largest up to Q8_0 that leaves room to work in so many bytes. 0: the smallest.
  std::uint64_t memory_bytes = 0;
  // The other nodes of the cluster; none by default.
  std::shared_ptr<const Peers> peers = nullptr;
  PullFrom from = PullFrom::kMembersThenHub;
  Naming naming = Naming::kAnything;
  WhenPulled when_pulled = WhenPulled::kFail;
  std::string member = {};  // this one alone is asked; empty: as `from` says
  // Asked before a model gets names, and before it is fetched where it is known by then: an error ends the pull.
  std::function<Result<void>(const Sha256& digest, const std::vector<std::string>& names)> may_be_called = {};
  OnProgress on_progress = {};
  std::stop_token stop = {};
};

// What taking away what a text names does.
struct Removal {
  StoredModel model = {};
  std::string name = {};                     // the one of its own that goes; empty: the text means the whole model
  std::vector<std::string> names_left = {};  // empty: the files go, too
};

class Store {
 public:
  explicit Store(StoreOptions options);

  const std::filesystem::path& folder() const { return library_.folder(); }

  // Own models by name, then those of other programs. A manifest or file that is damaged is left out, and said in the
  // log.
  Result<std::vector<StoredModel>> list() const;

  // By a path, a name ("qwen3:8b", "qwen3", "hf.co/OWNER/REPO:Q4_K_M"), or a digest's first digits (eight or more,
  // "sha256:" before them or not). Own models come first. kNotFound, saying how to get it; kInvalidArgument for what is
  // no name or fits several.
  Result<StoredModel> find(std::string_view name, Naming naming = Naming::kAnything) const;

  // An own model, for another member of the cluster: by name or digest alone, never by a path. kNotFound.
  Result<GivenModel> give(const std::string& name) const;

  // Gives what is here already, or gets it: by a short name, hf.co/OWNER/REPO[:QUANT], an http(s) URL or NODE/NAME.
  // Blocks, for hours if need be; what has come stays when it ends early, and the next call goes on from there. Every
  // byte is verified before the model has a name. Errors: kNotFound, kInvalidArgument; kRefused (the hub wants a
  // token, a member does not give it); kUnavailable, kTimeout after several tries; kCorrupt (a checksum is wrong: what
  // came is thrown away); kIo (also a full disk: what came stays); kNoCapacity while somebody else pulls the same;
  // kCancelled by `stop`.
  Result<StoredModel> pull(std::string_view name, const PullOptions& options) const;

  // What remove() would do; nothing is changed. A model's own name means that name, a digest the whole model, as does
  // where it came from (a repository, an address) where all that came from there has one name. kInvalidArgument,
  // listing the names, where it has several; kNotFound, also for a short name that only stands for such a repository;
  // kRefused for another program's.
  Result<Removal> plan_removal(std::string_view name, Naming naming = Naming::kAnything) const;
  // Takes the name away and, where it was the last, the files. Errors as above.
  Result<void> remove(const Removal& removal) const;
  Result<void> remove(std::string_view name, Naming naming = Naming::kAnything) const;

  // One more name for a model. It goes to where the files are, without a copy, and away from the model that had it
  // before. For another program's model kRefused.
  Result<void> copy(std::string_view from, std::string_view to, Naming naming = Naming::kAnything) const;

 private:
  enum class FoundBy { kName, kDigest, kPlace };
  struct Found {
    StoredModel model;
    FoundBy by = FoundBy::kName;
    std::string name = {};  // of the model's own, where it was found by that
  };
  Result<Found> look_for(std::string_view text, Naming naming) const;
  Result<void> check_place_means_one(std::string_view text) const;

  StoreOptions options_;
  Library library_;
};

}  // namespace baton::store
