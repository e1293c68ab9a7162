// The layers' matrices in the forms that prefill multiplies by them in on a CPU. Private to the engine room.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/layer_range.h"
#include "base/result.h"
#include "engine/block_matrix.h"
#include "engine/kernel_matrix.h"
#include "engine/model.h"
#include "engine/prefill_pack.h"
#include "engine/weight_form.h"
#include "model/description.h"

namespace baton::engine {

// Executor thread only, but for progress(). Threads of its own do the packing, at low priority, until all is packed or
// it is destroyed.
class PrefillWeights {
 public:
  PrefillWeights(std::shared_ptr<const Model> model, PrefillPack pack, unsigned threads);
  ~PrefillWeights();
  PrefillWeights(const PrefillWeights&) = delete;
  PrefillWeights& operator=(const PrefillWeights&) = delete;

  // Matrices that need no copy can be used at once; the others are being packed from now on. Where memory does not
  // suffice for all of them: kAuto packs none and says so in the log, else kNoCapacity. `mapped_bytes` of the model
  // file are in use besides, whether they are in memory yet or not.
  Result<void> add(LayerRange layers, std::uint64_t mapped_bytes);

  // Whether products in whole numbers read, or will read, this matrix of the layers where it lies in the file.
  bool reads_in_file(const model::TensorInfo& info) const { return blocks_of(info) != nullptr; }

  // Matrices, or experts, that are multiplied by in whole numbers; nullptr: see find().
  const BlockMatrix* find_blocks(std::uint32_t layer, model::LayerTensor role) const;
  // nullptr where ggml is to multiply, or as long as the matrix is not packed.
  const KernelMatrix* find(std::uint32_t layer, model::LayerTensor role) const;

  // Whether nothing of the layer is still to be packed.
  bool is_packed(std::uint32_t layer) const { return layers_[layer].unpacked == 0; }
  void wait_until_packed(std::uint32_t layer);

  PackingProgress progress() const { return {packed_bytes_, total_bytes_}; }

 private:
  struct Matrix {
    std::unique_ptr<const BlockMatrix> blocks;
    std::optional<PlainWeights> plain;  // what a plain matrix borrows
    std::unique_ptr<const KernelMatrix> owner;
    std::atomic<const KernelMatrix*> ready = nullptr;
  };
  struct Layer {
    std::array<Matrix, model::kLayerTensorCount> matrices;
    bool added = false;
    std::atomic<std::uint32_t> unpacked = 0;
  };
  struct Job {
    std::uint32_t layer;
    std::size_t role;
    MatrixForm form;
    std::uint64_t bytes;
  };

  const model::TensorInfo& info(const Job& job) const;
  // nullptr where the matrix is to be multiplied by in another way.
  std::unique_ptr<const BlockMatrix> blocks_of(const model::TensorInfo& info) const;
  std::vector<Job> choose(LayerRange layers);
  Result<bool> suffices(std::uint64_t bytes, std::uint64_t mapped_bytes) const;
  void make(const Job& job);
  void work(const std::stop_token& stop);

  const std::shared_ptr<const Model> model_;
  const PrefillPack pack_;
  const unsigned threads_;
  std::vector<Layer> layers_;
  std::atomic<std::uint64_t> packed_bytes_ = 0;
  std::atomic<std::uint64_t> total_bytes_ = 0;

  std::mutex mutex_;
  TimePoint told_at_{};  // when the log was last told how far it is
  std::condition_variable layer_packed_;
  std::deque<Job> jobs_;
  std::vector<std::jthread> workers_;  // last: they use all of the above
};

}  // namespace baton::engine
