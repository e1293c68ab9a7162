#include "serve/model_keeper.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <format>
#include <mutex>
#include <optional>
#include <utility>

#include "base/log.h"
#include "node/kept_folder.h"
#include "store/model_name.h"

namespace baton::serve {

namespace {

// Each takes a thread, a connection and its share of the line.
constexpr std::size_t kMostPulls = 4;
constexpr std::size_t kMostWaitingChanges = 16;
// Of a folder that the node's own thread may be emptying, too.
constexpr int kMostRemovals = 3;

std::unexpected<Error> lies_elsewhere(const std::string& name, const ModelEntry& entry) {
  return fail(ErrorCode::kRefused,
              std::format("'{}' is a file outside the model folder ({}), which nothing is done to from here", name,
                          entry.served().model().path().filename().string()));
}

}  // namespace

ModelKeeper::ModelKeeper(net::EventLoop& loop, ModelTable& table, ModelManagement management, Doors doors)
    : loop_(loop),
      table_(table),
      management_(std::move(management)),
      doors_(std::move(doors)),
      files_({.tasks = kMostWaitingChanges}),
      pulls_([this](const std::string& name, const store::OnProgress& on_progress,
                    const std::stop_token& stop) { return pull_now(name, on_progress, stop); },
             kMostPulls) {}

void ModelKeeper::close() {
  ending_.request_stop();
  pulls_.close();
  files_.close();
}

Result<void> ModelKeeper::submit(const std::string& client, std::move_only_function<Result<void>()> work, Done done) {
  TaskWorker::Task task;
  task.wanted = [] { return true; };
  task.run = [work = std::move(work), done = std::move(done)](TaskWorker::Turn turn) mutable {
    if (turn == TaskWorker::Turn::kTooLate) {
      return done(fail(ErrorCode::kUnavailable, "other models are being changed: come back later"));
    }
    Result<void> result;
    try {
      result = work();
    } catch (const std::exception& error) {
      result = fail(ErrorCode::kInternal, error.what());
    }
    done(std::move(result));
  };
  return files_.submit(client, std::move(task));
}

// The loop's thread may be the one that ends us: where it stops the wait, the task is not run any more.
Result<void> ModelKeeper::on_loop(std::move_only_function<Result<void>()> task, const std::stop_token& stop) {
  struct Call {
    std::mutex mutex;
    std::condition_variable_any changed;
    bool given_up = false;
    std::optional<Result<void>> result;
  };
  const auto call = std::make_shared<Call>();
  loop_.post([call, task = std::move(task)]() mutable {
    const std::lock_guard lock(call->mutex);
    if (call->given_up) return;
    call->result = task();
    call->changed.notify_all();
  });
  std::unique_lock lock(call->mutex);
  if (call->changed.wait(lock, stop, [&] { return call->result.has_value(); })) return *call->result;
  call->given_up = true;
  return fail(ErrorCode::kCancelled, "stopped");
}

Result<void> ModelKeeper::pull_now(const std::string& name, const store::OnProgress& on_progress,
                                   const std::stop_token& stop) {
  store::PullOptions options = TRY(management_.pull_options());
  options.naming = store::Naming::kNamesAlone;
  // Two clients may want one model by two names.
  options.when_pulled = store::WhenPulled::kWait;
  options.may_be_called = [this](const Sha256& digest, const std::vector<std::string>& names) -> Result<void> {
    const auto same = management_.store->find(digest.hex(), store::Naming::kNamesAlone);
    return check_names(names, same ? table_.find_file(same->parts.front()).get() : nullptr);
  };
  options.on_progress = on_progress;
  options.stop = stop;
  log::info("pulling {} for a client of the API", name);
  const auto pulled = management_.store->pull(name, options);
  if (!pulled) {
    log::info("{} is not pulled: {}", name, pulled.error().to_string());
    return std::unexpected(pulled.error());
  }
  const std::lock_guard lock(changing_);
  const auto model = management_.store->find(pulled->digest ? pulled->digest->hex() : pulled->names.front(),
                                             store::Naming::kNamesAlone);
  if (!model && model.error().code == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound, std::format("'{}' was deleted as soon as it had come: pull it again", name));
  }
  auto taken = model ? take_in(*model, stop) : Result<void>(std::unexpected(model.error()));
  if (!taken && taken.error().code != ErrorCode::kCancelled) {
    taken.error().message = std::format("'{}' is here now, but it cannot be served: {}", name, taken.error().message);
  }
  return taken;
}

Result<void> ModelKeeper::take_in(const store::StoredModel& model, const std::stop_token& stop) {
  if (const auto entry = table_.find_file(model.parts.front())) return table_.rename(*entry, model.names);
  ModelIntake::Opened opened = TRY(management_.intake->open(model));
  return on_loop(
      [this, opened = std::move(opened), &model]() mutable -> Result<void> {
        // Somebody may have pulled it by another name meanwhile.
        if (const auto entry = table_.find_file(model.parts.front())) return table_.rename(*entry, model.names);
        return doors_.admit(std::move(opened), model.names);
      },
      stop);
}

Result<void> ModelKeeper::copy(const std::string& client, std::string source, std::string destination, Done done) {
  return submit(
      client,
      [this, source = std::move(source), destination = std::move(destination)] {
        return copy_now(source, destination);
      },
      std::move(done));
}

Result<void> ModelKeeper::remove(const std::string& client, std::string name, Done done) {
  return submit(client, [this, name = std::move(name)] { return remove_now(name); }, std::move(done));
}

Result<void> ModelKeeper::copy_now(const std::string& source, const std::string& destination) {
  const std::lock_guard lock(changing_);
  const store::Store& store = *management_.store;
  const auto model = store.find(source, store::Naming::kNamesAlone);
  if (!model) {
    const auto entry = table_.find(source).entry;
    return entry ? lies_elsewhere(source, *entry) : std::unexpected(model.error());
  }
  const auto entry = table_.find_file(model->parts.front());
  TRY(check_names({destination}, entry.get()));
  TRY(store.copy(source, destination, store::Naming::kNamesAlone));
  if (!entry) return {};
  return table_.rename(*entry, TRY(store.find(destination, store::Naming::kNamesAlone)).names);
}

Result<void> ModelKeeper::check_names(const std::vector<std::string>& names, const ModelEntry* of) const {
  // A name leads to one model, and clients of the other are in the middle of something.
  const auto list = table_.list();
  for (const ModelTable::Listed& listed : *list) {
    if (listed.entry.get() == of) continue;
    for (const std::string& name : names) {
      const bool has_it =
          std::ranges::any_of(listed.names, [&](const auto& own) { return store::same_name(own, name); });
      if (!has_it) continue;
      return fail(ErrorCode::kNoCapacity, std::format("another model is served as '{}': give this one another name, or "
                                                      "delete that one first",
                                                      name));
    }
  }
  return {};
}

Result<void> ModelKeeper::remove_now(const std::string& name) {
  const std::lock_guard lock(changing_);
  const store::Store& store = *management_.store;
  // What is another program's the store refuses to touch, and says so.
  const auto removal = store.plan_removal(name, store::Naming::kNamesAlone);
  if (!removal) {
    // What the store has by another name is no file elsewhere.
    const bool is_elsewhere =
        removal.error().code == ErrorCode::kNotFound && !store.find(name, store::Naming::kNamesAlone);
    const auto entry = is_elsewhere ? table_.find(name).entry : nullptr;
    return entry ? lies_elsewhere(name, *entry) : std::unexpected(removal.error());
  }
  const store::StoredModel& model = removal->model;
  const std::vector<std::string>& left = removal->names_left;
  const auto entry = table_.find_file(model.parts.front());
  if (left.empty() && needs(model.parts.front())) {
    return fail(ErrorCode::kNoCapacity, std::format("this node was started with '{}' as a draft, and uses it", name));
  }
  if (entry && entry->stay == Stay::kAlways &&
      (left.empty() || store::same_name(removal->name, entry->served().id()))) {
    return fail(ErrorCode::kNoCapacity,
                std::format("this node was started with '{}' and serves it: it can be deleted when the node has ended, "
                            "with 'baton rm'",
                            entry->served().id()));
  }
  const bool is_dismissed = left.empty() && entry;
  if (is_dismissed) TRY(on_loop([this, entry] { return doors_.dismiss(*entry); }, ending_.get_token()));
  if (auto removed = store.remove(*removal); !removed) {
    // It is still here, and so are its clients.
    const auto back = is_dismissed ? take_in(model, ending_.get_token()) : Result<void>();
    if (!back) log::warning("{} is served no longer: {}", name, back.error().to_string());
    return removed;
  }
  log::info("{} was deleted by a client of the API", name);
  if (left.empty()) return forget_conversations(model);
  return entry ? table_.rename(*entry, left) : Result<void>();
}

// The node forgets those that it knows of. It knows of none of a model that it does not serve or has not hashed yet,
// nor where it keeps no texts this time.
Result<void> ModelKeeper::forget_conversations(const store::StoredModel& model) const {
  if (management_.kept_texts.empty() || !model.digest) return {};
  Result<void> removed;
  for (int attempt = 0; attempt < kMostRemovals; ++attempt) {
    removed = node::KeptFolder::remove_model(management_.kept_texts, *model.digest);
    if (removed) return {};
  }
  removed.error().message =
      std::format("'{}' is deleted, but not what was said with it: {}", model.names.front(), removed.error().message);
  return removed;
}

bool ModelKeeper::needs(const std::filesystem::path& file) const {
  return std::ranges::any_of(management_.in_use, [&](const std::filesystem::path& used) {
    std::error_code not_there;
    return std::filesystem::equivalent(used, file, not_there);
  });
}

}  // namespace baton::serve
