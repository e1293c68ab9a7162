#include "node/model_pool.h"

#include <algorithm>
#include <cassert>
#include <filesystem>
#include <format>
#include <utility>

#include "base/log.h"
#include "base/number_text.h"
#include "engine/memory_need.h"
#include "model/digest_cache.h"
#include "model/kv_rows.h"

namespace baton::node {

namespace {

// While somebody waits for a model, and while one is loaded that might go.
constexpr auto kLookAgain = std::chrono::milliseconds(50);
constexpr auto kLookForExpired = std::chrono::milliseconds(250);
// Whoever waits for a model asks more often than this.
constexpr auto kStillWanted = std::chrono::seconds(1);
// All that waited hear of a failure; who asks later has it tried again.
constexpr auto kFailureIsNews = std::chrono::seconds(1);
// At least so long after it was loaded, and at least as long as loading took, a model is not told to go that is in use:
// models that take turns should compute more than they load.
constexpr Duration kLeastStay = std::chrono::seconds(1);

constexpr std::size_t kExecutorQueue = 256;

double gigabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

std::uint64_t file_bytes(const model::GgufFile& file) {
  std::uint64_t bytes = 0;
  for (std::size_t part = 0; part < file.part_count(); ++part) bytes += file.part_bytes(part).size();
  return bytes;
}

void release_pages(const model::GgufFile& file) {
  for (std::size_t part = 0; part < file.part_count(); ++part) file.release(file.part_bytes(part));
}

}  // namespace

PooledModel::PooledModel(ModelPool& pool, KnownModel known)
    : pool_(pool),
      name_(std::move(known.name)),
      file_(std::move(known.file)),
      usual_keep_alive_(known.keep_alive.value_or(pool.options_.keep_alive)),
      keep_alive_(usual_keep_alive_) {}

const engine::EngineOptions& PooledModel::engine_options() const { return pool_.options_.engine; }

LoadedModel* PooledModel::loaded() const { return loaded_ != nullptr && !loaded_->retired() ? loaded_ : nullptr; }

Duration PooledModel::expires_in() const {
  if (keep_alive_ == kForever) return kForever;
  return std::max(keep_alive_ - (pool_.options_.now() - used_at_), Duration::zero());
}

engine::SchedulerLoad PooledModel::scheduler_load() const {
  engine::SchedulerLoad load = past_load_;
  if (loaded_ != nullptr) load += loaded_->scheduler().load();
  return load;
}

Result<LoadedModel*> PooledModel::ask() {
  const TimePoint time = pool_.options_.now();
  asked_at_ = time;
  if (LoadedModel* model = loaded()) {
    used_at_ = time;
    return model;
  }
  if (failure_ && time - failed_at_ < kFailureIsNews) return std::unexpected(*failure_);
  failure_.reset();
  if (!wanted_since_) {
    wanted_since_ = time;
    pool_.look_soon();
  }
  return nullptr;
}

ModelPool::ModelPool(net::EventLoop& loop, Node& node, std::shared_ptr<engine::DeviceThread> device,
                     PoolOptions options, std::vector<KnownModel> models)
    : loop_(loop),
      node_(node),
      device_(std::move(device)),
      options_([&] {
        // As engines fill it in.
        options.engine.context_tokens = model::block_above(options.engine.context_tokens);
        return std::move(options);
      }()),
      timer_(loop) {
  for (KnownModel& known : models) add(std::move(known));
}

ModelPool::~ModelPool() {
  *ending_ = true;
  stop_hashing_.request_stop();
}

PooledModel& ModelPool::add(KnownModel known) {
  models_.push_back(std::unique_ptr<PooledModel>(new PooledModel(*this, std::move(known))));
  hash_next();
  return *models_.back();
}

void ModelPool::remove(PooledModel& model) {
  assert(model.state_ == PooledModel::State::kUnloaded && !model.wanted_since_);
  if (hashed_ == model.file_) stop_hashing_.request_stop();
  const std::optional<Sha256> digest = model.digest_;
  std::erase_if(models_, [&](const auto& held) { return held.get() == &model; });
  const auto digest_of = [](const auto& held) { return held->digest_; };
  if (digest && !std::ranges::contains(models_, digest, digest_of)) node_.forget_kept_texts(*digest);
}

std::optional<Error> ModelPool::why_not_loaded(const Sha256& digest) const {
  const auto found =
      std::ranges::find(models_, std::optional(digest), [](const auto& model) { return model->digest_; });
  if (found == models_.end()) return std::nullopt;
  return Error{ErrorCode::kNoCapacity, std::format("the model {} is not loaded here now", (*found)->name_), {}};
}

// Peers compare digests, and computing one takes a second for each gigabyte that was never read before.
void ModelPool::hash_next() {
  // Whoever is waited for, and of those the smallest: what takes hours holds up nobody else.
  const auto goes_before = [](const PooledModel& left, const PooledModel& right) {
    const bool wanted = left.wanted_since_.has_value();
    if (wanted != right.wanted_since_.has_value()) return wanted;
    return file_bytes(left.file_->file()) < file_bytes(right.file_->file());
  };
  PooledModel* next = nullptr;
  for (const auto& model : models_) {
    if (model->digest_ || model->why_no_digest_) continue;
    if (next == nullptr || goes_before(*model, *next)) next = model.get();
  }
  if (next == nullptr || hashed_ == next->file_) return;
  if (hashed_ != nullptr) {
    // What is broken off begins again later.
    if (next->wanted_since_) stop_hashing_.request_stop();
    return;
  }
  hashed_ = next->file_;
  stop_hashing_ = std::stop_source();
  hashing_.submit([this, file = hashed_, stop = stop_hashing_.get_token(), ending = ending_] {
    std::vector<std::filesystem::path> parts;
    for (std::size_t part = 0; part < file->file().part_count(); ++part) parts.push_back(file->file().part_path(part));
    loop_.post([this, ending, digest = model::model_digest(parts, stop)] {
      if (!*ending) on_hashed(digest);
    });
  });
}

void ModelPool::on_hashed(const Result<Sha256>& digest) {
  const auto file = std::exchange(hashed_, nullptr);
  for (const auto& model : models_) {
    if (model->file_ != file || model->digest_) continue;
    if (digest) {
      model->digest_ = *digest;
    } else if (digest.error().code != ErrorCode::kCancelled) {
      log::warning("{}: no other machine can be asked to help with it: {}", model->name_, digest.error().to_string());
      model->why_no_digest_ = digest.error();
    }
  }
  look();
}

Result<FreshModel> ModelPool::load(std::shared_ptr<const engine::Model> file, const PoolOptions& options,
                                   std::shared_ptr<engine::DeviceThread> device) {
  const Sha256 digest = TRY(file->digest());
  return load_with(digest, std::move(file), options, std::move(device));
}

Result<FreshModel> ModelPool::load_with(const Sha256& digest, std::shared_ptr<const engine::Model> file,
                                        const PoolOptions& options, std::shared_ptr<engine::DeviceThread> device) {
  const TimePoint began = options.now();
  FreshModel fresh;
  fresh.parts.digest = digest;
  auto engine = TRY(engine::Engine::create(std::move(file), options.engine));
  fresh.stats = engine->stats();
  if (options.draft) fresh.parts.draft = TRY(options.draft(*engine));
  fresh.parts.executor = std::make_unique<engine::Executor>(std::move(engine), kExecutorQueue, std::move(device));
  fresh.rates = TRY(options.measure(*fresh.parts.executor, fresh.parts.digest));
  fresh.load_time = options.now() - began;
  return fresh;
}

Result<void> ModelPool::take_over(PooledModel& model, FreshModel fresh) {
  model.bytes_ = engine::held_bytes(fresh.stats);
  if (fresh.parts.draft) model.bytes_ += engine::held_bytes(fresh.parts.draft->stats());
  if (auto error = too_large(model)) return std::unexpected(*std::move(error));
  const TimePoint time = options_.now();
  model.digest_ = fresh.parts.digest;
  model.rates_ = fresh.rates;
  model.mapped_bytes_ = fresh.stats.mapped_weight_bytes;
  model.load_time_ = fresh.load_time;
  model.loaded_at_ = model.used_at_ = time;
  model.keep_alive_ = model.usual_keep_alive_;
  model.state_ = PooledModel::State::kLoaded;
  model.wanted_since_.reset();
  model.failure_.reset();
  device_info_ = fresh.parts.executor->engine().device();
  if (hashed_ == model.file_) stop_hashing_.request_stop();
  log::info("{} is loaded and takes {:.2f} GB; this machine reads {} and writes {} tokens a second with it",
            model.name_, gigabytes(model.bytes_), number_text(fresh.rates.prefill_tokens_per_s),
            number_text(fresh.rates.decode_tokens_per_s));
  fresh.parts.prefill_tokens_per_s = fresh.rates.prefill_tokens_per_s;
  model.loaded_ = &node_.add(std::move(fresh.parts));
  ++model.loads_;
  keep_ticking();
  return {};
}

void ModelPool::look_soon() {
  if (std::exchange(look_posted_, true)) return;
  loop_.post([this, ending = ending_] {
    if (*ending) return;
    look_posted_ = false;
    look();
  });
}

void ModelPool::keep_ticking() {
  const bool wanted = std::ranges::any_of(models_, [](const auto& model) { return model->wanted_since_.has_value(); });
  const bool loaded = !node_.models().empty();
  if (wanted || loaded) timer_.start(Duration(wanted ? kLookAgain : kLookForExpired), [this] { look(); });
}

void ModelPool::look() {
  for (const auto& model : models_) {
    if (model->loaded_ == nullptr) continue;
    if (model->loaded_->is_used()) model->used_at_ = options_.now();
    model->loaded_->write_ahead();
  }
  hash_next();
  if (PooledModel* wanted = busy_ ? nullptr : next_wanted()) {
    if (const auto error = too_large(*wanted)) {
      end(*wanted, *error);
    } else if (const auto unreadable = std::exchange(wanted->why_no_digest_, std::nullopt)) {
      end(*wanted, *unreadable);
    } else if (has_room_for(*wanted)) {
      start_loading(*wanted);
    } else {
      make_room();
    }
  }
  let_expired_go();
  keep_ticking();
}

// Who has waited longest; those for whom nobody asks any more are forgotten.
PooledModel* ModelPool::next_wanted() {
  const TimePoint time = options_.now();
  PooledModel* next = nullptr;
  for (const auto& model : models_) {
    if (model->wanted_since_ && time - model->asked_at_ > kStillWanted) model->wanted_since_.reset();
    if (!model->wanted_since_ || model->state_ != PooledModel::State::kUnloaded) continue;
    // Meanwhile others are loaded whose digests are known.
    if (!model->digest_ && !model->why_no_digest_) continue;
    if (next == nullptr || *model->wanted_since_ < *next->wanted_since_) next = model.get();
  }
  return next;
}

// What it took the last time is known; else what it takes at least.
std::uint64_t ModelPool::need_bytes(const PooledModel& model) const {
  return model.bytes_ != 0 ? model.bytes_ : engine::memory_need_bytes(*model.file_, options_.engine);
}

std::uint64_t ModelPool::held_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& model : models_) bytes += model->loaded_ != nullptr ? model->bytes_ : 0;
  return bytes;
}

std::optional<Error> ModelPool::too_large(const PooledModel& model) const {
  if (!options_.memory_bytes || need_bytes(model) <= *options_.memory_bytes) return std::nullopt;
  return Error{ErrorCode::kNoCapacity,
               std::format("the model takes {:.2f} GB, and the models of this node may take {:.2f} GB: give them more "
                           "with --memory, or a smaller --ctx",
                           gigabytes(need_bytes(model)), gigabytes(*options_.memory_bytes)),
               model.name_};
}

bool ModelPool::has_room_for(const PooledModel& model) const {
  const std::uint64_t held = held_bytes();
  std::uint64_t mapped = 0;
  for (const auto& other : models_) mapped += other->loaded_ != nullptr ? other->mapped_bytes_ : 0;
  const std::uint64_t need = need_bytes(model);
  if (options_.memory_bytes) return held + need <= *options_.memory_bytes && !(held > 0 && model.needs_room_);
  // Alone it may try: what can be done without is known only then.
  if (held == 0) return true;
  if (model.needs_room_) return false;
  const auto free = engine::free_device_bytes(*device_info_);
  const bool is_cpu = device_info_->kind == engine::DeviceKind::kCpu;
  if (!free || !is_cpu) return !free || need <= *free;
  // What is laid out anew beside the file, where there is room for it, makes a CPU several times faster.
  const std::uint64_t copies = model.bytes_ == 0 ? need : 0;
  return mapped + need + copies <= *free;
}

// One model goes, or is told to.
void ModelPool::make_room() {
  const TimePoint time = options_.now();
  PooledModel* idle = nullptr;
  PooledModel* in_use = nullptr;
  const auto older = [](const PooledModel& model, const PooledModel* than) {
    return than == nullptr || model.used_at_ < than->used_at_;
  };
  bool is_going = false;
  for (const auto& held : models_) {
    PooledModel& model = *held;
    if (model.loaded_ == nullptr) continue;
    const bool used = model.loaded_->is_used();
    if (used && model.loaded_->retired()) is_going = true;
    // Somebody waited for it and has not got to use it yet.
    const bool fresh = time - model.loaded_at_ < std::max(kLeastStay, model.load_time_);
    const bool asked_for = time - model.asked_at_ < kStillWanted;
    if (!used && !(fresh && asked_for)) {
      if (older(model, idle)) idle = &model;
    } else if (used && !fresh && older(model, in_use)) {
      in_use = &model;
    }
  }
  if (idle != nullptr) {
    unload(*idle);
  } else if (in_use != nullptr && !is_going) {
    log::info("{} takes no new answers, as another model needs its room", in_use->name_);
    in_use->loaded_->retire();
  }
}

void ModelPool::let_expired_go() {
  const TimePoint time = options_.now();
  for (const auto& model : models_) {
    if (busy_) return;
    if (model->loaded_ == nullptr || model->loaded_->is_used() || model->expires_in() > Duration::zero()) continue;
    // Who waited for it, has not had it yet: it may be there for one answer only.
    if (model->used_at_ == model->loaded_at_ && time - model->asked_at_ < kStillWanted) continue;
    unload(*model);
  }
}

void ModelPool::start_loading(PooledModel& model) {
  busy_ = true;
  model.state_ = PooledModel::State::kLoading;
  log::info("loading {}", model.name_);
  loading_.submit([this, &model, file = model.file_, digest = *model.digest_, ending = ending_] {
    if (*ending) return;
    auto fresh = load_with(digest, file, options_, device_);
    loop_.post([this, &model, ending, fresh = std::move(fresh)]() mutable {
      if (!*ending) on_loaded(model, std::move(fresh));
    });
  });
}

void ModelPool::on_loaded(PooledModel& model, Result<FreshModel> fresh) {
  busy_ = false;
  model.state_ = PooledModel::State::kUnloaded;
  model.needs_room_ = !fresh && fresh.error().code == ErrorCode::kNoCapacity;
  if (fresh) {
    const auto twin =
        std::ranges::find(node_.models(), fresh->parts.digest, [](const auto& held) { return held->digest(); });
    const std::uint64_t beside = held_bytes();
    model.bytes_ = engine::held_bytes(fresh->stats);
    if (twin != node_.models().end()) {
      end(model, {ErrorCode::kInvalidArgument, "another of this node's models is the very same file: ask for that",
                  model.name_});
    } else if (beside > 0 && options_.memory_bytes && beside + model.bytes_ > *options_.memory_bytes) {
      // It takes more than its file says, and now that is known; what was loaded goes where it came from.
      loading_.submit([too_much = *std::move(fresh)] {});
    } else if (const auto taken = take_over(model, *std::move(fresh)); !taken) {
      end(model, taken.error());
    }
  } else if (!model.needs_room_ || node_.models().empty()) {
    end(model, fresh.error());
  }
  look();
}

void ModelPool::end(PooledModel& model, const Error& error) {
  log::warning("{} cannot be loaded: {}", model.name_, error.to_string());
  model.wanted_since_.reset();
  model.needs_room_ = false;
  model.failure_ = error;
  // For its clients it is the server that lacks something.
  if (error.code == ErrorCode::kNoCapacity) model.failure_->code = ErrorCode::kUnavailable;
  model.failed_at_ = options_.now();
}

void ModelPool::unload(PooledModel& model) {
  log::info("unloading {}", model.name_);
  busy_ = true;
  model.state_ = PooledModel::State::kEnding;
  model.past_load_ = model.scheduler_load();
  auto parts = node_.remove(*std::exchange(model.loaded_, nullptr));
  loading_.submit([this, &model, file = model.file_, ending = ending_, parts = std::move(parts)]() mutable {
    parts.last_writes.wait();
    parts = {};
    // The model stays open, and what was read of it in this process's memory.
    release_pages(file->file());
    loop_.post([this, &model, ending] {
      if (*ending) return;
      busy_ = false;
      model.state_ = PooledModel::State::kUnloaded;
      for (const auto& other : models_) other->needs_room_ = false;
      look();
    });
  });
}

}  // namespace baton::node
