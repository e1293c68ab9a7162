// The models that this machine may run, of which those are loaded that somebody needs
// (docs/adr/0018-several-models.md).
//
// A model is loaded when it is asked for, one after another and off the loop's thread, so that other models' answers go
// on meanwhile. It goes when nobody has used it for its keep-alive time, or when another needs its room: the one that
// was used longest ago goes first. Where all are in use, that one takes no new work any more, and goes when what runs
// with it has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/job_thread.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "node/device_rates.h"
#include "node/keep_alive.h"
#include "node/node.h"

namespace baton::node {

struct KnownModel {
  std::string name;
  std::shared_ptr<const engine::Model> file;
  std::optional<Duration> keep_alive = std::nullopt;  // nothing: as the pool's options say
};

struct PoolOptions {
  engine::EngineOptions engine;               // of every model
  std::optional<std::uint64_t> memory_bytes;  // of all together; nothing: what the device has free
  Duration keep_alive = kDefaultKeepAlive;
  // How fast this machine is with a model; on a thread of its own, while nobody else uses the executor.
  std::function<Result<DeviceRates>(engine::Executor& executor, const Sha256& digest)> measure;
  // The engine of a small model that guesses for `checker`; empty, or null: none.
  std::function<Result<std::unique_ptr<engine::Engine>>(const engine::Engine& checker)> draft;
  std::function<TimePoint()> now = baton::now;
};

// As it comes from the loading thread.
struct FreshModel {
  ModelParts parts;
  DeviceRates rates;
  engine::EngineStats stats;
  Duration load_time{};
};

class ModelPool;

// One of the pool's models; lives until it is removed or the pool goes, on the loop's thread.
class PooledModel {
 public:
  enum class State { kUnloaded, kLoading, kLoaded, kEnding };

  const std::string& name() const { return name_; }                // any thread
  const engine::Model& file() const { return *file_; }             // any thread
  const engine::EngineOptions& engine_options() const;             // any thread; of the engine that is or would be made
  const std::optional<Sha256>& digest() const { return digest_; }  // nothing before it was computed
  const std::optional<DeviceRates>& rates() const { return rates_; }  // nothing before it was loaded once
  State state() const { return state_; }
  // Somebody waits for it to be loaded.
  bool is_wanted() const { return wanted_since_.has_value(); }
  // Null while it is not loaded, and once it is to go.
  LoadedModel* loaded() const;

  // The same, and where it is null the model is loaded if this is asked again within every second: an error says that
  // it cannot be.
  Result<LoadedModel*> ask();
  // Counted from its last use, until it is unloaded.
  void keep_alive(Duration time) { keep_alive_ = time; }

  // While it is loaded: all that it takes, and what is left of its keep-alive time, or kForever.
  std::uint64_t bytes() const { return bytes_; }
  Duration expires_in() const;

  // Of all the times that it was loaded.
  std::uint64_t loads() const { return loads_; }
  engine::SchedulerLoad scheduler_load() const;

 private:
  friend class ModelPool;
  PooledModel(ModelPool& pool, KnownModel known);

  ModelPool& pool_;
  const std::string name_;
  const std::shared_ptr<const engine::Model> file_;
  const Duration usual_keep_alive_;
  std::optional<Sha256> digest_;
  std::optional<Error> why_no_digest_;
  std::optional<DeviceRates> rates_;
  State state_ = State::kUnloaded;
  LoadedModel* loaded_ = nullptr;
  Duration keep_alive_;
  std::uint64_t bytes_ = 0;
  std::uint64_t mapped_bytes_ = 0;  // of those
  bool needs_room_ = false;         // it was tried, and others have to go first
  std::uint64_t loads_ = 0;
  engine::SchedulerLoad past_load_;  // of the times before this one
  Duration load_time_{};
  TimePoint loaded_at_{};
  TimePoint used_at_{};
  TimePoint asked_at_{};
  std::optional<TimePoint> wanted_since_;
  std::optional<Error> failure_;
  TimePoint failed_at_{};
};

// Lives on the loop's thread; loop and node must outlive it.
class ModelPool {
 public:
  // Computes the digests that are not known yet, on a thread of their own: one after another, those of models first
  // which somebody waits for, and the smallest of them before the others.
  ModelPool(net::EventLoop& loop, Node& node, std::shared_ptr<engine::DeviceThread> device, PoolOptions options,
            std::vector<KnownModel> models);
  // Waits for what is being loaded, and for no digest.
  ~ModelPool();
  ModelPool(const ModelPool&) = delete;
  ModelPool& operator=(const ModelPool&) = delete;

  // Loads on the calling thread, for whoever wants a model before there is a pool, and hands it to one.
  static Result<FreshModel> load(std::shared_ptr<const engine::Model> file, const PoolOptions& options,
                                 std::shared_ptr<engine::DeviceThread> device);
  // kNoCapacity where it takes more than all models may.
  Result<void> take_over(PooledModel& model, FreshModel fresh);

  std::span<const std::unique_ptr<PooledModel>> models() const { return models_; }
  // One more, not loaded.
  PooledModel& add(KnownModel known);
  // It must be neither loaded nor wanted. Its kept texts go from the disk.
  void remove(PooledModel& model);
  // Why work for a model is refused (NodeOptions::why_not_loaded).
  std::optional<Error> why_not_loaded(const Sha256& digest) const;

 private:
  friend class PooledModel;

  static Result<FreshModel> load_with(const Sha256& digest, std::shared_ptr<const engine::Model> file,
                                      const PoolOptions& options, std::shared_ptr<engine::DeviceThread> device);
  void look_soon();
  void look();
  void keep_ticking();
  PooledModel* next_wanted();
  bool has_room_for(const PooledModel& model) const;
  std::uint64_t need_bytes(const PooledModel& model) const;
  std::uint64_t held_bytes() const;
  // Nothing where it may be loaded, if the others go.
  std::optional<Error> too_large(const PooledModel& model) const;
  void make_room();
  void let_expired_go();
  void start_loading(PooledModel& model);
  void on_loaded(PooledModel& model, Result<FreshModel> fresh);
  void end(PooledModel& model, const Error& error);
  void unload(PooledModel& model);
  void hash_next();
  void on_hashed(const Result<Sha256>& digest);

  net::EventLoop& loop_;
  Node& node_;
  const std::shared_ptr<engine::DeviceThread> device_;
  const PoolOptions options_;
  std::vector<std::unique_ptr<PooledModel>> models_;
  std::optional<engine::DeviceInfo> device_info_;  // once something was loaded
  bool busy_ = false;                              // the loading thread loads or unloads
  bool look_posted_ = false;
  net::Timer timer_;
  std::shared_ptr<const engine::Model> hashed_;  // whose digest is being computed
  std::stop_source stop_hashing_;                // of that
  std::shared_ptr<std::atomic<bool>> ending_ = std::make_shared<std::atomic<bool>>(false);
  JobThread hashing_{"hashing"};  // these last: they end before the rest
  JobThread loading_{"loading"};
};

}  // namespace baton::node
