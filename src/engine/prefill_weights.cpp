#include "engine/prefill_weights.h"

#include <algorithm>
#include <chrono>
#include <format>

#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"

namespace baton::engine {

namespace {

// Left to the system and to what the process takes later: activations, the KV of sequences, a matrix on its way.
constexpr std::uint64_t kPrefillReserveBytes = 512U << 20U;
// A large model takes minutes, in which somebody wonders whether anything happens.
constexpr auto kTellInterval = std::chrono::seconds(3);

std::uint64_t copy_bytes(const MatrixForm& form) {
  if (form.layout == Layout::kPacked) return packed_bytes(form);
  const std::uint64_t element = form.storage == Storage::kF32 ? 4 : 2;
  return static_cast<std::uint64_t>(form.columns) * static_cast<std::uint64_t>(form.rows) * element;
}

std::uint64_t mebibytes(std::uint64_t bytes) { return bytes >> 20U; }

}  // namespace

PrefillWeights::PrefillWeights(std::shared_ptr<const Model> model, PrefillPack pack, unsigned threads)
    : model_(std::move(model)), pack_(pack), threads_(threads), layers_(model_->shape().layer_count) {}

PrefillWeights::~PrefillWeights() {
  for (std::jthread& worker : workers_) worker.request_stop();
}

const model::TensorInfo& PrefillWeights::info(const Job& job) const {
  return *model_->hyperparameters().layers[job.layer].tensors[job.role];
}

std::unique_ptr<const BlockMatrix> PrefillWeights::blocks_of(const model::TensorInfo& info) const {
  const auto columns = static_cast<std::int64_t>(info.shape[0]);
  const auto rows = static_cast<std::int64_t>(info.shape[1]);
  const bool experts = info.dimensions == 3;
  const auto coding = choose_coding(info.type, columns, rows, experts ? MatrixUse::kExperts : MatrixUse::kDense, pack_);
  if (!coding) return nullptr;
  return BlockMatrix::find({.type = info.type,
                            .coding = *coding,
                            .columns = columns,
                            .rows = rows,
                            .matrices = experts ? static_cast<std::int64_t>(info.shape[2]) : 1},
                           model_->file().tensor_bytes(info));
}

std::vector<PrefillWeights::Job> PrefillWeights::choose(LayerRange layers) {
  std::vector<Job> jobs;
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    if (layers_[layer].added) continue;
    for (std::size_t role = 0; role < model::kLayerTensorCount; ++role) {
      const model::TensorInfo* info = model_->hyperparameters().layers[layer].tensors[role];
      if (!model::is_multiplied(static_cast<model::LayerTensor>(role))) continue;
      if (info == nullptr || info->shape[1] == 1 || info->dimensions < 2 || info->dimensions > 3) continue;
      std::unique_ptr<const BlockMatrix>& blocks = layers_[layer].matrices[role].blocks;
      blocks = blocks_of(*info);
      if (blocks != nullptr || info->dimensions != 2) continue;
      const auto form = choose_form(info->type, static_cast<std::int64_t>(info->shape[0]),
                                    static_cast<std::int64_t>(info->shape[1]), pack_);
      if (!form) continue;
      const bool in_place = is_in_place(info->type, *form);
      jobs.push_back({.layer = layer, .role = role, .form = *form, .bytes = in_place ? 0 : copy_bytes(*form)});
    }
  }
  return jobs;
}

Result<bool> PrefillWeights::suffices(std::uint64_t bytes, std::uint64_t mapped_bytes) const {
  const auto available = available_memory_bytes();
  const std::uint64_t needed = bytes + mapped_bytes + kPrefillReserveBytes;
  if (!available || needed <= *available) return true;
  const std::string reason = std::format(
      "packed weights for prefill take {} MB, beside {} MB of mapped weights and {} MB of reserve, and {} "
      "MB are available",
      mebibytes(bytes), mebibytes(mapped_bytes), mebibytes(kPrefillReserveBytes), mebibytes(*available));
  if (pack_ != PrefillPack::kAuto) {
    return fail(ErrorCode::kNoCapacity, reason + "; try --prefill-pack int8, auto or off");
  }
  log::warning("{}: quantised weights are not packed, and prompts are read more slowly", reason);
  return false;
}

Result<void> PrefillWeights::add(LayerRange layers, std::uint64_t mapped_bytes) {
  const std::vector<Job> jobs = choose(layers);
  std::uint64_t bytes = 0;
  for (const Job& job : jobs) bytes += job.bytes;
  const bool copies = bytes > 0 && TRY(suffices(bytes, mapped_bytes));
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) layers_[layer].added = true;
  std::vector<Job> later;
  for (const Job& job : jobs) {
    if (job.bytes == 0) {
      make(job);
    } else if (copies) {
      later.push_back(job);
    }
  }
  if (later.empty()) return {};

  log::info("packing {} MB of weights for prefill in the background", mebibytes(bytes));
  total_bytes_ += bytes;
  const std::size_t workers = std::min<std::size_t>(threads_, later.size());
  {
    const std::lock_guard lock(mutex_);
    told_at_ = now();
    for (const Job& job : later) layers_[job.layer].unpacked += 1;
    jobs_.insert(jobs_.end(), later.begin(), later.end());
  }
  for (std::size_t i = 0; i < workers; ++i) {
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
  return {};
}

void PrefillWeights::make(const Job& job) {
  const model::TensorInfo& source = info(job);
  const ByteSpan bytes = model_->file().tensor_bytes(source);
  PlainWeights plain(source.type, bytes, job.form);
  auto made = make_kernel_matrix(job.form, plain.weights(), plain.scales());
  if (!made) {
    log::warning("'{}' is not packed for prefill: {}", source.name, made.error().to_string());
    return;
  }
  Matrix& matrix = layers_[job.layer].matrices[job.role];
  // Moving keeps what it points to where it is.
  if (job.form.layout == Layout::kPlain) matrix.plain.emplace(std::move(plain));
  matrix.owner = std::move(*made);
  matrix.ready = matrix.owner.get();
}

void PrefillWeights::work(const std::stop_token& stop) {
  name_this_thread("baton-pack");
  lower_priority_of_this_thread();
  const TimePoint start = now();
  std::unique_lock lock(mutex_);
  while (!jobs_.empty() && !stop.stop_requested()) {
    const Job job = jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    make(job);
    packed_bytes_ += job.bytes;
    lock.lock();
    if (--layers_[job.layer].unpacked == 0) layer_packed_.notify_all();
    const TimePoint time = now();
    if (packed_bytes_ == total_bytes_) {
      log::info("packed {} MB of weights for prefill in {:.1f} s", mebibytes(total_bytes_), seconds(time - start));
    } else if (time - told_at_ >= Duration(kTellInterval)) {
      told_at_ = time;
      log::info("packed {}% of {} MB of weights for prefill", 100 * packed_bytes_ / total_bytes_,
                mebibytes(total_bytes_));
    }
  }
}

const BlockMatrix* PrefillWeights::find_blocks(std::uint32_t layer, model::LayerTensor role) const {
  return layers_[layer].matrices[static_cast<std::size_t>(role)].blocks.get();
}

const KernelMatrix* PrefillWeights::find(std::uint32_t layer, model::LayerTensor role) const {
  return layers_[layer].matrices[static_cast<std::size_t>(role)].ready;
}

void PrefillWeights::wait_until_packed(std::uint32_t layer) {
  std::unique_lock lock(mutex_);
  // Bounded: its workers end only when all jobs are done, and this object outlives them.
  layer_packed_.wait(lock, [&] { return is_packed(layer); });
}

}  // namespace baton::engine
