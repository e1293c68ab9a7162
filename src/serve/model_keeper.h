// Brings models while the server runs, names them and takes them away: what /api/pull, /api/copy and /api/delete do.
// The store keeps the files, the node the models; this one sees that what clients are told of them agrees.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "serve/model_pulls.h"
#include "serve/model_table.h"
#include "serve/task_worker.h"
#include "store/store.h"

namespace baton::serve {

// What the server does not know of a model that comes: how it is opened, and who else has to hear of it.
class ModelIntake {
 public:
  virtual ~ModelIntake() = default;
  struct Opened {
    std::unique_ptr<const ServedModel> served;
    node::KnownModel known;
    node::RequestOptions request = {};
  };
  // Its words and templates, without its weights. Any thread, for a second. kUnsupported for what cannot be served
  // here.
  virtual Result<Opened> open(const store::StoredModel& model) = 0;
  // On the loop's thread: the node has it from now on, not loaded.
  virtual ServerModel admit(Opened opened) = 0;
  // Likewise: it has it no longer. It is neither loaded nor wanted.
  virtual void dismiss(node::PooledModel& model) = 0;
};

struct ModelManagement {
  std::shared_ptr<const store::Store> store = nullptr;  // null: the models stay as they are
  // How much memory there is, and who else may have a model. Any thread.
  std::function<Result<store::PullOptions>()> pull_options = {};
  ModelIntake* intake = nullptr;                   // must outlive the server
  std::vector<std::filesystem::path> in_use = {};  // files of models that this node needs and nobody may name
  // Where kept texts lie (node/kept_folder.h), whether this run keeps any or not: a model's go with it.
  std::filesystem::path kept_texts = {};
};

class ModelKeeper {
 public:
  // What the server does on the loop's thread.
  struct Doors {
    std::function<Result<void>(ModelIntake::Opened opened, std::vector<std::string> names)> admit;
    // kNoCapacity where it is loaded, or somebody waits for it.
    std::function<Result<void>(const ModelEntry& entry)> dismiss;
  };
  // Table and loop must outlive it.
  ModelKeeper(net::EventLoop& loop, ModelTable& table, ModelManagement management, Doors doors);
  ~ModelKeeper() { close(); }
  ModelKeeper(const ModelKeeper&) = delete;
  ModelKeeper& operator=(const ModelKeeper&) = delete;

  ModelPulls& pulls() { return pulls_; }

  // These two on a thread of the keeper's, one after the other; `done` is called there. Any thread may ask. kNoCapacity
  // for a model that is in use or a name that is taken, kRefused for what is not the store's, kNotFound; at once where
  // too many such wishes wait.
  using Done = std::function<void(Result<void>)>;
  Result<void> copy(const std::string& client, std::string source, std::string destination, Done done);
  Result<void> remove(const std::string& client, std::string name, Done done);

  // Stops pulls, waits for what is under way, and calls nobody afterwards.
  void close();

 private:
  Result<void> pull_now(const std::string& name, const store::OnProgress& on_progress, const std::stop_token& stop);
  Result<void> take_in(const store::StoredModel& model, const std::stop_token& stop);
  Result<void> copy_now(const std::string& source, const std::string& destination);
  Result<void> remove_now(const std::string& name);
  // kNoCapacity where another model than `of` (null: than all) is served by one of them.
  Result<void> check_names(const std::vector<std::string>& names, const ModelEntry* of) const;
  bool needs(const std::filesystem::path& file) const;
  Result<void> forget_conversations(const store::StoredModel& model) const;
  Result<void> submit(const std::string& client, std::move_only_function<Result<void>()> work, Done done);
  Result<void> on_loop(std::move_only_function<Result<void>()> task, const std::stop_token& stop);

  net::EventLoop& loop_;
  ModelTable& table_;
  const ModelManagement management_;
  const Doors doors_;
  std::stop_source ending_;
  // Over every look into the store that is followed by a change of the table; never taken on the loop's thread, which
  // its holder may wait for.
  std::mutex changing_;
  TaskWorker files_;
  ModelPulls pulls_;
};

}  // namespace baton::serve
