// Which models this node gives to the other members of its cluster.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/model.h"
#include "store/store.h"

namespace baton::cli {

// A model that is served, and how clients call it.
struct ServedFile {
  std::string name;
  std::shared_ptr<const engine::Model> file;
};

// The models that are served at this moment. Any thread.
class ServedFiles {
 public:
  void add(ServedFile served);
  void remove(const engine::Model& file);
  std::vector<ServedFile> list() const;

 private:
  mutable std::mutex mutex_;
  std::vector<ServedFile> files_;
};

// Those of the store's own folder, and those that are served when somebody asks, wherever their files lie: by the name
// that clients use, the file's name with its ending or without, or the digest's first digits. No other file. Any thread
// may call the function.
store::FindGiven given_models(store::Store store, std::shared_ptr<const ServedFiles> served_files);

}  // namespace baton::cli
