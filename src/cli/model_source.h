// Where a command finds the model that it is told: a file, or a name in the store, pulled where it is missing.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/result.h"
#include "cli/options.h"
#include "store/store.h"

namespace baton::cli {

// What every MODEL argument's help says.
inline constexpr const char* kModelHelp = "GGUF file, or a name such as qwen3:8b (see 'baton pull')";

// Of this machine: $BATON_MODELS, or "models" in the data folder.
Result<store::Store> open_store(const LinkFlags& link);
// The same for a command without --data.
Result<store::Store> open_store();

// The nodes of this machine's cluster that its models can be pulled from; none where it is in no cluster.
Result<std::shared_ptr<const store::Peers>> find_peers(const LinkFlags& link);

struct ModelFile {
  std::filesystem::path path;  // the first of its parts
  std::string name;            // as the store calls it; empty for a plain file
};

// What is here. A path is given back as it is: whoever opens it says what is wrong with it.
Result<ModelFile> find_model(const std::string& text);

// What is here, or else is pulled, from a member of the cluster or the hub, telling standard error how far it is.
// Ctrl-C ends it with kCancelled. Make it before any thread, as a SignalWatch.
Result<ModelFile> obtain_model(const std::string& text, const LinkFlags& link);

struct PullSource {
  store::PullFrom from = store::PullFrom::kMembersThenHub;
  std::string member = {};  // this node alone; empty: any
};

// What pull_model pulls with, but how far it is, and when to stop.
enum class MemoryOf { kThisMachine, kCluster };
Result<store::PullOptions> pull_options(const LinkFlags& link, MemoryOf memory);

// Pulls as obtain_model does, for the machine of the cluster, or this one alone, with the most memory.
Result<store::StoredModel> pull_model(const std::string& text, const LinkFlags& link, MemoryOf memory,
                                      const PullSource& source);

}  // namespace baton::cli
