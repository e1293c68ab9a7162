#include "serve/model_pulls.h"

#include <algorithm>
#include <exception>
#include <format>
#include <utility>
#include <vector>

#include "base/thread.h"

namespace baton::serve {

Result<ModelPulls::WatcherId> ModelPulls::watch(const std::string& name, Watcher watcher) {
  std::unique_lock lock(mutex_);
  // One that has just ended is begun again: its end was not this watcher's.
  while (std::ranges::any_of(pulls_, [](const auto& entry) { return entry.second->ended; })) {
    lock.unlock();
    join_ended();
    lock.lock();
  }
  if (closed_) return fail(ErrorCode::kCancelled, "the server is shutting down");
  const WatcherId id = next_id_++;
  const auto found = pulls_.find(name);
  if (found != pulls_.end()) {
    const std::optional<store::PullProgress> latest = found->second->latest;
    const store::OnProgress tell = watcher.on_progress;
    found->second->watchers.emplace(id, std::move(watcher));
    lock.unlock();
    if (latest) tell(*latest);
    return id;
  }
  if (pulls_.size() >= most_) {
    return fail(ErrorCode::kNoCapacity, std::format("{} models are being pulled already: come back later", most_));
  }
  Running& pull = *pulls_.emplace(name, std::make_unique<Running>()).first->second;
  pull.watchers.emplace(id, std::move(watcher));
  pull.thread = std::thread([this, name, &pull] {
    name_this_thread("pull");
    lower_priority_of_this_thread();
    run(name, pull);
  });
  return id;
}

void ModelPulls::leave(WatcherId id) {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, pull] : pulls_) {
    if (pull->watchers.erase(id) != 0 && pull->watchers.empty()) pull->stop.request_stop();
  }
}

void ModelPulls::close() {
  std::vector<std::unique_ptr<Running>> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (auto& [name, pull] : pulls_) {
      pull->watchers.clear();
      pull->stop.request_stop();
      left.push_back(std::move(pull));
    }
    pulls_.clear();
  }
  for (const auto& pull : left) pull->thread.join();
}

void ModelPulls::run(const std::string& name, Running& pull) {
  while (true) {
    std::stop_token stop;
    {
      const std::lock_guard lock(mutex_);
      stop = pull.stop.get_token();
    }
    const auto on_progress = [&](const store::PullProgress& progress) {
      {
        const std::lock_guard lock(mutex_);
        pull.latest = progress;
      }
      for (const auto& [id, watcher] : watchers_of(pull)) watcher.on_progress(progress);
    };
    Result<void> end;
    try {
      end = pull_(name, on_progress, stop);
    } catch (const std::exception& error) {
      end = fail(ErrorCode::kInternal, std::format("the pull failed: {}", error.what()));
    }
    std::map<WatcherId, Watcher> watchers;
    {
      const std::lock_guard lock(mutex_);
      // Somebody came after the last had gone, and had it stopped.
      if (stop.stop_requested() && !end && !pull.watchers.empty()) {
        pull.stop = std::stop_source();
        pull.latest.reset();
        continue;
      }
      watchers = std::exchange(pull.watchers, {});
      pull.ended = true;
    }
    for (const auto& [id, watcher] : watchers) watcher.on_end(end);
    return;
  }
}

std::map<ModelPulls::WatcherId, ModelPulls::Watcher> ModelPulls::watchers_of(const Running& pull) const {
  const std::lock_guard lock(mutex_);
  return pull.watchers;
}

void ModelPulls::join_ended() {
  std::vector<std::unique_ptr<Running>> ended;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(pulls_, [&](auto& entry) {
      if (!entry.second->ended) return false;
      ended.push_back(std::move(entry.second));
      return true;
    });
  }
  for (const auto& pull : ended) pull->thread.join();
}

}  // namespace baton::serve
