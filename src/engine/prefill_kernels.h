// The graph builder's kernels on a CPU: products and attention of many rows by oneDNN, products of a few by our own.
// Private to the engine room.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/attention_kernel.h"
#include "engine/engine.h"
#include "engine/kernel_matrix.h"
#include "engine/prefill_weights.h"
#include "engine/step_weights.h"
#include "model/graph.h"

namespace baton::engine {

// Executor thread only; the products it adds to a graph run on ggml's threads. It must outlive the graph's computation.
class PrefillKernels : public model::Kernels {
 public:
  // From this many rows on: below, reading the weights once is what takes the time.
  static constexpr std::int64_t kLeastRows = 16;

  PrefillKernels(PrefillWeights& weights, const StepWeights& step_weights);

  // Before the graph of a layer is built for a pass of `rows`: waits until the layer is packed where that is quicker
  // than computing without. oneDNN splits rows among threads, so that their bits depend on how many there are: rows
  // kAsSteps are none of its.
  void begin_layer(std::uint32_t layer, std::uint32_t rows, SpanRows kind);
  ggml_tensor* multiply(ggml_context* context, model::LayerTensor weight, ggml_tensor* input) override;
  ggml_tensor* multiply_head(ggml_context* context, ggml_tensor* input) override;
  ggml_tensor* multiply_chosen(ggml_context* context, model::LayerTensor weight, ggml_tensor* input,
                               ggml_tensor* chosen) override;
  ggml_tensor* attend(ggml_context* context, ggml_tensor* query, ggml_tensor* keys, ggml_tensor* values,
                      const model::AttentionSpan& span, float scale) override;

  // What went wrong in computations since the last call.
  Result<void> take_result();

 private:
  struct Product {
    const KernelMatrix* matrix = nullptr;
    PrefillKernels* owner = nullptr;
  };
  struct StepProduct {
    const StepMatrix* matrix = nullptr;
    PrefillKernels* owner = nullptr;
    std::atomic<std::int64_t> taken = 0;  // parts that the threads have begun
  };
  // Activations as whole numbers; matrices that multiply one input share them.
  struct Tiles {
    const ggml_tensor* input = nullptr;
    const ggml_tensor* chosen = nullptr;  // nullptr: not for experts
    CodeWidth width = CodeWidth::k8;
    std::int64_t matrices = 1;
    PrefillKernels* owner = nullptr;
    std::vector<RowGroup> groups;  // empty for experts: who is chosen is known when the graph runs
    ggml_tensor* made = nullptr;
  };
  struct BlockProduct {
    const BlockMatrix* matrix = nullptr;
    const Tiles* tiles = nullptr;
    PrefillKernels* owner = nullptr;
  };
  struct Attention {
    std::shared_ptr<const AttentionKernel> kernel;
    model::AttentionSpan span;
    PrefillKernels* owner = nullptr;
  };
  ggml_tensor* multiply_few(ggml_context* context, const StepMatrix* matrix, ggml_tensor* input);
  const Tiles& tiles_of(ggml_context* context, const BlockMatrix& matrix, ggml_tensor* input, ggml_tensor* chosen);
  ggml_tensor* add_block_product(ggml_context* context, model::LayerTensor weight, const BlockMatrix& matrix,
                                 ggml_tensor* input, ggml_tensor* chosen);
  static void compute_tiles(ggml_tensor* result, int thread, int threads, void* tiles);
  static void compute_block_product(ggml_tensor* result, int thread, int threads, void* product);
  static void compute_product(ggml_tensor* result, int thread, int threads, void* product);
  static void compute_step_product(ggml_tensor* result, int thread, int threads, void* product);
  static void compute_attention(ggml_tensor* result, int thread, int threads, void* attention);
  // Runs on ggml's threads, which no exception may leave: what goes wrong waits for take_result().
  template <typename Compute>
  void guarded(const Compute& compute);
  void keep_first_error(Error error);

  PrefillWeights& weights_;
  const StepWeights& step_weights_;
  std::uint32_t layer_ = 0;
  SpanRows kind_ = SpanRows::kTogether;
  std::array<Product, model::kLayerTensorCount> products_;  // of the layer's graph
  std::array<BlockProduct, model::kLayerTensorCount> block_products_;
  std::deque<StepProduct> step_products_;  // of the graph, as they are counted down
  std::deque<Tiles> tiles_;
  std::deque<Attention> attentions_;  // the same, for each span

  std::atomic<bool> out_of_memory_ = false;  // a flag, as an Error would need memory itself
  std::mutex mutex_;
  Result<void> result_;
};

}  // namespace baton::engine
