// The models that clients may name: those that the server was started with, and those that come and go while it runs.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "node/model_pool.h"
#include "serve/answer_planner.h"
#include "serve/embedder.h"
#include "serve/generator.h"
#include "serve/served_model.h"

namespace baton::serve {

// What is pointed at must stay as long as the server serves it.
struct ServerModel {
  std::unique_ptr<const ServedModel> served;
  node::PooledModel* source = nullptr;  // on the loop's thread
  // What all its requests share: plan, chunk, codec, speculation.
  node::RequestOptions request = {};
  // Chooses another plan for each of them. Null: all run by the one above.
  AnswerPlanner* planner = nullptr;
};

enum class Stay {
  kAlways,        // the server was started with it
  kUntilDeleted,  // it came later
};

// A model, and who answers with it. Any thread may read it and hold the weak pointers, which are for the loop's.
struct ModelEntry {
  ServerModel model;
  Stay stay = Stay::kAlways;
  std::weak_ptr<Generator> generator = {};
  std::weak_ptr<Embedder> embedder = {};

  const ServedModel& served() const { return *model.served; }
};

// Any thread. What it has handed out stays as it was when the table changes; an entry that left it lives on, for
// whoever holds it, but nobody answers with it any more.
class ModelTable {
 public:
  struct Listed {
    std::vector<std::string> names;  // the first is the one to show; not empty
    std::shared_ptr<const ModelEntry> entry;
  };
  using List = std::vector<Listed>;

  // In the order in which they came.
  std::shared_ptr<const List> list() const;
  // By a name as clients write it: "qwen3" and "qwen3:latest" are what the store understands by them, and where no
  // model is called so, one of the repository that is meant. `name` is then the model's own that is meant. Null.
  struct Found {
    std::shared_ptr<const ModelEntry> entry;
    std::string name = {};
  };
  Found find(std::string_view name) const;
  // Whose first file this is; null.
  std::shared_ptr<const ModelEntry> find_file(const std::filesystem::path& file) const;

  // As it is called first now; as it was when it came, where it has gone.
  std::string name_of(const ModelEntry& entry) const;

  // Names that another model has stay with it; kInvalidArgument where so none is left.
  Result<void> add(std::shared_ptr<const ModelEntry> entry, std::vector<std::string> names);
  // The same for one that is here. The name that the server was started with stays.
  Result<void> rename(const ModelEntry& entry, std::vector<std::string> names);
  void remove(const ModelEntry& entry);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const List> list_ = std::make_shared<const List>();
};

}  // namespace baton::serve
