// Pulls that clients of the API have asked for: each on a thread of its own, one of each name, watched by whoever asked
// for it. One that nobody watches any more is stopped, and what has come of it stays.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/result.h"
#include "store/progress.h"

namespace baton::serve {

// Any thread may call any member. Watchers are called on the pull's thread.
class ModelPulls {
 public:
  // Gets the model of that name, for hours if need be, and has it served. kCancelled by `stop`, soon.
  using Pull = std::function<Result<void>(const std::string& name, const store::OnProgress& on_progress,
                                          const std::stop_token& stop)>;
  struct Watcher {
    store::OnProgress on_progress;
    std::function<void(const Result<void>& end)> on_end;  // once, unless the watcher leaves before
  };
  using WatcherId = std::uint64_t;

  ModelPulls(Pull pull, std::size_t most_at_once) : pull_(std::move(pull)), most_(most_at_once) {}
  // Closes it.
  ~ModelPulls() { close(); }
  ModelPulls(const ModelPulls&) = delete;
  ModelPulls& operator=(const ModelPulls&) = delete;

  // Begins a pull, or joins the one of that name. kNoCapacity where too many run; kCancelled once it is closed.
  Result<WatcherId> watch(const std::string& name, Watcher watcher);
  // A call that is under way may still come.
  void leave(WatcherId id);
  // Stops every pull and waits for their ends; nobody is called afterwards.
  void close();

 private:
  struct Running {
    std::map<WatcherId, Watcher> watchers;
    std::optional<store::PullProgress> latest;
    std::stop_source stop;
    bool ended = false;
    std::thread thread;
  };

  void run(const std::string& name, Running& pull);
  std::map<WatcherId, Watcher> watchers_of(const Running& pull) const;
  void join_ended();

  const Pull pull_;
  const std::size_t most_;
  mutable std::mutex mutex_;
  WatcherId next_id_ = 1;
  std::map<std::string, std::unique_ptr<Running>> pulls_;
  bool closed_ = false;
};

}  // namespace baton::serve
