// A model's weights on a device, loaded layer by layer. Private to the engine room.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/layer_range.h"
#include "engine/engine.h"
#include "engine/ggml_device.h"
#include "model/graph.h"

namespace baton::engine {

// Who multiplies a few rows by a matrix.
enum class FewRows {
  kByDevice,
  kByStepWeights,  // those that they take; they have copies of their own
};

// Matrices go to the memory that multiplies fastest: repacked where the device offers that for their type, else used
// in place from the mapped file, else copied. The embedding table is only looked up in, so it is never repacked.
// Executor thread only, but for holds().
class Weights {
 public:
  Weights(std::shared_ptr<const Model> model, const GgmlDevice& device, FewRows few_rows);
  ~Weights();

  // Loads the layers of the range that are missing, and the embedding or the head where it begins or ends there. They
  // count as held once `check` has found that the device can compute with them.
  Result<void> ensure(LayerRange layers, const std::function<Result<void>()>& check);
  bool holds(LayerRange layers) const;

  const model::LayerWeights& layer(std::uint32_t layer) const { return layers_[layer]; }
  ggml_tensor* embedding() const { return embedding_; }
  const model::HeadWeights& head() const { return head_; }
  ggml_tensor* rope_factors() const { return rope_factors_; }
  void add_to(EngineStats& stats) const;

 private:
  enum class Use { kMultiply, kOther };
  enum class Place { kMapped, kCopied, kRepacked };
  struct Wanted {
    const model::TensorInfo* info;
    Use use;
    ggml_tensor** slot;  // set when the tensor has its memory
  };
  struct Upload {
    ggml_tensor* tensor;
    const model::TensorInfo* info;
    Place place;
  };

  Result<void> load(std::span<const Wanted> wanted);
  Result<void> place(ggml_tensor* tensor, const Wanted& wanted, std::vector<Upload>& uploads);
  void upload(std::span<const Upload> uploads) const;
  bool can_map(const model::TensorInfo& info) const;

  std::shared_ptr<const Model> model_;
  const GgmlDevice& device_;
  const FewRows few_rows_;
  std::vector<GgmlBuffer> mappings_;  // over each whole file of the model; null where the device cannot compute on it
  std::vector<GgmlContext> contexts_;
  std::vector<GgmlBuffer> buffers_;
  std::vector<model::LayerWeights> layers_;
  ggml_tensor* embedding_ = nullptr;
  model::HeadWeights head_;
  ggml_tensor* rope_factors_ = nullptr;
  std::uint64_t mapped_bytes_ = 0;
  std::uint64_t copied_bytes_ = 0;
  std::uint64_t repacked_bytes_ = 0;
  std::vector<std::atomic<bool>> loaded_;  // per layer, then embedding, then head
};

}  // namespace baton::engine
