#include "engine/step_weights.h"

#include <algorithm>
#include <atomic>
#include <format>
#include <new>
#include <thread>

#include "base/log.h"
#include "base/memory.h"

namespace baton::engine {

namespace {

// Left to what the process takes later.
constexpr std::uint64_t kStepReserveBytes = 512U << 20U;

std::optional<std::uint64_t> copy_bytes(const model::TensorInfo& matrix) {
  if (matrix.dimensions != 2) return std::nullopt;
  return step_copy_bytes(matrix.type, static_cast<std::int64_t>(matrix.shape[0]),
                         static_cast<std::int64_t>(matrix.shape[1]));
}

}  // namespace

StepWeights::StepWeights(std::shared_ptr<const Model> model, unsigned threads)
    : model_(std::move(model)), threads_(threads), layers_(model_->shape().layer_count) {}

bool StepWeights::copies(const model::TensorInfo& matrix) { return copy_bytes(matrix).value_or(0) > 0; }

const StepMatrix* StepWeights::find(std::uint32_t layer, model::LayerTensor role) const {
  return layers_[layer][static_cast<std::size_t>(role)].get();
}

Result<void> StepWeights::add(LayerRange layers, const StillRead& still_read) {
  std::vector<Job> jobs;
  const auto want = [&](const model::TensorInfo& info, Matrix& to, bool read) {
    if (to == nullptr && copy_bytes(info)) jobs.push_back({&info, &to, read});
  };
  const model::Hyperparameters& hyperparameters = model_->hyperparameters();
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    for (std::size_t role = 0; role < model::kLayerTensorCount; ++role) {
      const model::TensorInfo* info = hyperparameters.layers[layer].tensors[role];
      if (info != nullptr && model::is_multiplied(static_cast<model::LayerTensor>(role))) {
        want(*info, layers_[layer][role], still_read(*info));
      }
    }
  }
  if (layers.end == layers_.size()) want(hyperparameters.output_matrix(), head_, false);
  std::uint64_t bytes = 0;
  for (const Job& job : jobs) bytes += *copy_bytes(*job.info);
  const auto available = available_memory_bytes();
  if (available && bytes > 0 && bytes + kStepReserveBytes > *available) {
    log::warning("{} MB of weights stay as they lie in the file, as {} MB of memory are available: tokens come slower",
                 bytes >> 20U, *available >> 20U);
    std::erase_if(jobs, [](const Job& job) { return copies(*job.info); });
  }
  return make(jobs);
}

Result<void> StepWeights::make(const std::vector<Job>& jobs) {
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> short_of_memory = false;
  const auto work = [&] {
    for (std::size_t index = next++; index < jobs.size() && !short_of_memory; index = next++) {
      const auto& [info, to, still_read] = jobs[index];
      const ByteSpan bytes = model_->file().tensor_bytes(*info);
      try {
        *to = make_step_matrix(info->type, static_cast<std::int64_t>(info->shape[0]),
                               static_cast<std::int64_t>(info->shape[1]), bytes);
      } catch (const std::bad_alloc&) {
        short_of_memory = true;
        return;
      }
      // There is a copy now; the file's pages need not stay in memory beside it.
      if (copies(*info) && !still_read) model_->file().release(bytes);
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (unsigned helper = 1; helper < threads_ && helper < jobs.size(); ++helper) helpers.emplace_back(work);
    work();
  }
  std::uint64_t bytes = 0;
  for (const Job& job : jobs) bytes += *copy_bytes(*job.info);
  if (short_of_memory) {
    return fail(ErrorCode::kNoCapacity,
                std::format("no memory for {} MB of weights in the order that the processor multiplies in; try "
                            "--prefill-pack off",
                            bytes >> 20U));
  }
  bytes_ += bytes;
  return {};
}

}  // namespace baton::engine
