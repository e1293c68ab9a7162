// Runs a checked batch: inputs to the device, layer after layer, results back. Private to the engine room.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ggml-alloc.h>

#include "engine/emulation.h"
#include "engine/engine.h"
#include "engine/ggml_device.h"
#include "engine/kv_cache.h"
#include "engine/prefill_kernels.h"
#include "engine/weights.h"
#include "model/graph.h"

namespace baton::engine {

// Executor thread only. Borrows all that it is made with.
class ForwardPass {
 public:
  // `kernels` may be null: ggml then computes everything.
  static Result<std::unique_ptr<ForwardPass>> create(const Model& model, const GgmlDevice& device,
                                                     const Weights& weights, KvCache& cache, PrefillKernels* kernels,
                                                     std::uint32_t max_rows);
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;
  ~ForwardPass();

  // Whether the device can compute these layers as they are loaded: kUnsupported names what it cannot.
  Result<void> check_device(LayerRange layers);

  // The batch was checked by the engine: nothing here looks at its sizes again.
  Result<void> run(const Batch& batch, const Outputs& outputs, LayerObserver* observer, Emulation* emulation);

  std::uint64_t memory_bytes() const;

 private:
  struct FreeAllocator {
    void operator()(ggml_gallocr* allocator) const { ggml_gallocr_free(allocator); }
  };
  using Allocator = std::unique_ptr<ggml_gallocr, FreeAllocator>;

  // Rows that attend together: a span, or one row of a span kAsSteps.
  struct RowRun {
    std::size_t span = 0;  // its place in the batch
    std::uint32_t first_position = 0;
    std::uint32_t count = 0;
  };
  // The runs as layers see them that have the same attention window and the same cells.
  struct WindowInputs {
    std::uint32_t window = 0;
    std::vector<std::int64_t> origins;  // of each span: the cell of position 0, which may lie before the first
    ggml_tensor* cells = nullptr;       // of the tokens
    std::vector<model::AttentionSpan> spans;
  };

  ForwardPass(const Model& model, const GgmlDevice& device, const Weights& weights, KvCache& cache,
              PrefillKernels* kernels, std::uint32_t max_rows);
  Result<void> allocate_rows();

  Result<void> prepare_inputs(const Batch& batch);
  Result<void> place_inputs();
  void list_runs(const Batch& batch);
  void make_masks(WindowInputs& inputs);
  void fill_mask(const RowRun& run, std::uint32_t window, ggml_tensor* mask);
  void move_windows(const Batch& batch);
  void choose_inputs(const Batch& batch);
  const WindowInputs& inputs_for(std::uint32_t layer) const { return windows_[window_of_layer_[layer]]; }

  // Runs all layers, and counts those that are done.
  Result<void> run_layers(const Batch& batch, LayerObserver* observer, Emulation* emulation, std::uint32_t& done);
  Result<void> embed();
  Result<void> run_layer(const Batch& batch, std::uint32_t layer);
  Result<void> run_head(HeadResult kind, std::span<float> logits);
  Result<void> compute(ggml_cgraph* graph, ggml_gallocr* allocator);
  void begin_states(const Batch& batch, std::uint32_t layer);
  void end_states(const Batch& batch, std::uint32_t layer);
  ggml_context* fresh_graph_context();
  ggml_tensor* rows_of(ggml_context* context, ggml_tensor* all, std::uint32_t first, std::uint32_t count) const;

  const Model& model_;
  const model::ModelShape& shape_;
  const GgmlDevice& device_;
  const Weights& weights_;
  KvCache& cache_;
  PrefillKernels* const kernels_;
  const std::uint32_t max_rows_;

  GgmlContext rows_context_;
  GgmlBuffer rows_buffer_;
  ggml_tensor* hidden_ = nullptr;     // F32 [embedding, max_rows]: the residual stream
  ggml_tensor* head_rows_ = nullptr;  // F32 [embedding, max_rows]: rows that go on to the head

  // Inputs of the pass under way.
  GgmlContext input_context_;
  GgmlBuffer input_buffer_;
  ggml_tensor* tokens_ = nullptr;
  ggml_tensor* positions_ = nullptr;
  ggml_tensor* kept_ = nullptr;
  ggml_tensor* temperatures_ = nullptr;
  ggml_tensor* only_state_ = nullptr;
  std::vector<RowRun> runs_;
  std::vector<WindowInputs> windows_;
  std::vector<std::size_t> window_of_layer_;  // its place in windows_, for the pass's layers
  std::vector<ggml_tensor*> states_;          // of the layer under way, for each span
  bool as_steps_ = false;                     // some rows must not depend on the others
  std::uint32_t row_count_ = 0;
  std::uint32_t kept_count_ = 0;
  std::vector<std::uint16_t> mask_row_;

  GgmlContext graph_context_;
  std::size_t graph_size_ = 0;
  Allocator layer_allocator_;
  Allocator head_allocator_;
};

}  // namespace baton::engine
