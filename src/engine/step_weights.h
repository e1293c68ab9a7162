// The matrices in the form that a few rows are multiplied by them in on a CPU. Private to the engine room.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"
#include "engine/model.h"
#include "engine/step_matrix.h"
#include "model/description.h"

namespace baton::engine {

// Executor thread only. Copies are made by several threads at once, and replace those that the device's own kernels
// would need: the matrices it takes are left where they lie in the file.
class StepWeights {
 public:
  StepWeights(std::shared_ptr<const Model> model, unsigned threads);

  // Whether it makes a copy of such a matrix of the layers or the head; others it reads where they lie.
  static bool copies(const model::TensorInfo& matrix);
  // Whether something else goes on reading a matrix of the layers in the file.
  using StillRead = std::function<bool(const model::TensorInfo& matrix)>;
  // Makes the copies of those layers, and of the head where the range ends there; the file's pages that they stand for
  // are given back unless they are still read. Where memory does not suffice for all of them it makes none, says so in
  // the log, and ggml multiplies by the file's own bytes. kNoCapacity.
  Result<void> add(LayerRange layers, const StillRead& still_read);

  // nullptr where ggml is to multiply.
  const StepMatrix* find(std::uint32_t layer, model::LayerTensor role) const;
  const StepMatrix* head() const { return head_.get(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  using Matrix = std::unique_ptr<const StepMatrix>;
  using Layer = std::array<Matrix, model::kLayerTensorCount>;
  struct Job {
    const model::TensorInfo* info;
    Matrix* to;
    bool still_read;
  };
  Result<void> make(const std::vector<Job>& jobs);

  const std::shared_ptr<const Model> model_;
  const unsigned threads_;
  std::vector<Layer> layers_;
  Matrix head_;
  std::uint64_t bytes_ = 0;
};

}  // namespace baton::engine
