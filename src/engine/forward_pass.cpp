#include "engine/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/attention_window.h"
#include "engine/cell_pool.h"
#include "engine/sequence_states.h"
#include "model/kv_rows.h"

namespace baton::engine {

namespace {

// Rows of logits made at once: with a vocabulary of 256,000 this is 32 MB.
constexpr std::uint32_t kHeadRows = 32;
constexpr std::size_t kHeadGraphSize = 32;

constexpr std::uint16_t kVisible = 0x0000;  // F16 zero
constexpr std::uint16_t kHidden = 0xFC00;   // F16 minus infinity

std::size_t round_up_to(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

std::vector<float> query_temperatures(const model::Hyperparameters& numbers,
                                      const std::vector<std::int32_t>& positions) {
  std::vector<float> factors;
  for (const std::int32_t position : positions) {
    const auto lengths = static_cast<float>(static_cast<std::uint32_t>(position) / numbers.temperature_length);
    factors.push_back(1.0F + numbers.temperature_slope * std::log1p(lengths));
  }
  return factors;
}

template <typename T>
void set(ggml_tensor* tensor, const std::vector<T>& values) {
  if (tensor != nullptr) ggml_backend_tensor_set(tensor, values.data(), 0, values.size() * sizeof(T));
}

}  // namespace

ForwardPass::ForwardPass(const Model& model, const GgmlDevice& device, const Weights& weights, KvCache& cache,
                         PrefillKernels* kernels, std::uint32_t max_rows)
    : model_(model),
      shape_(model.shape()),
      device_(device),
      weights_(weights),
      cache_(cache),
      kernels_(kernels),
      max_rows_(max_rows),
      layer_allocator_(ggml_gallocr_new(device.memory())),
      head_allocator_(ggml_gallocr_new(device.memory())) {}

ForwardPass::~ForwardPass() = default;

Result<std::unique_ptr<ForwardPass>> ForwardPass::create(const Model& model, const GgmlDevice& device,
                                                         const Weights& weights, KvCache& cache,
                                                         PrefillKernels* kernels, std::uint32_t max_rows) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(model, device, weights, cache, kernels, max_rows));
  TRY(pass->allocate_rows());
  return pass;
}

Result<void> ForwardPass::allocate_rows() {
  rows_context_ = make_context(2);
  hidden_ = ggml_new_tensor_2d(rows_context_.get(), GGML_TYPE_F32, shape_.embedding_width, max_rows_);
  head_rows_ = ggml_new_tensor_2d(rows_context_.get(), GGML_TYPE_F32, shape_.embedding_width, max_rows_);
  rows_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(rows_context_.get(), device_.memory()));
  if (rows_buffer_ == nullptr) return fail(ErrorCode::kNoCapacity, "no memory for activations; try a smaller --chunk");
  return {};
}

std::uint64_t ForwardPass::memory_bytes() const {
  const auto size = [](const GgmlBuffer& buffer) {
    return buffer == nullptr ? 0 : ggml_backend_buffer_get_size(buffer.get());
  };
  return size(rows_buffer_) + size(input_buffer_) + ggml_gallocr_get_buffer_size(layer_allocator_.get(), 0) +
         ggml_gallocr_get_buffer_size(head_allocator_.get(), 0);
}

ggml_tensor* ForwardPass::rows_of(ggml_context* context, ggml_tensor* all, std::uint32_t first,
                                  std::uint32_t count) const {
  return ggml_view_2d(context, all, all->ne[0], count, all->nb[1], first * all->nb[1]);
}

ggml_context* ForwardPass::fresh_graph_context() {
  const std::size_t spans = windows_.empty() ? 1 : windows_.front().spans.size();
  const std::size_t size = std::max(model::layer_graph_size(shape_, spans), kHeadGraphSize);
  if (size > graph_size_) {
    graph_context_ = make_context(size, size);
    graph_size_ = size;
  } else {
    ggml_reset(graph_context_.get());
  }
  return graph_context_.get();
}

Result<void> ForwardPass::check_device(LayerRange layers) {
  const GgmlContext inputs = make_context(8 + layers.size());
  ggml_context* input = inputs.get();
  constexpr std::uint32_t kRows = 32;
  const std::uint32_t rows = std::min(kRows, max_rows_);
  const model::AttentionSpan span{.first_row = 0,
                                  .row_count = rows,
                                  .first_cell = 0,
                                  .kv_count = kCellBlock,
                                  .mask = ggml_new_tensor_2d(input, GGML_TYPE_F16, kCellBlock, rows),
                                  .first_row_cell = 0,
                                  .window = 0};
  ggml_tensor* numbers = ggml_new_tensor_1d(input, GGML_TYPE_I32, rows);
  ggml_tensor* cells = ggml_new_tensor_1d(input, GGML_TYPE_I64, rows);
  ggml_tensor* temperatures =
      model_.hyperparameters().temperature_slope == 0 ? nullptr : ggml_new_tensor_3d(input, GGML_TYPE_F32, 1, 1, rows);
  ggml_tensor* only_state = ggml_new_tensor_1d(input, GGML_TYPE_I32, 1);
  windows_.clear();
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    const model::LayerMemory& memory = shape_.layers[layer].memory;
    ggml_tensor* state = memory.keeps_state() ? ggml_new_tensor_1d(input, GGML_TYPE_F32, memory.state_width) : nullptr;
    ggml_context* context = fresh_graph_context();
    ggml_cgraph* graph = ggml_new_graph_custom(context, graph_size_, false);
    ggml_tensor* hidden = rows_of(context, hidden_, 0, rows);
    if (layer == 0) build_embedding(context, graph, model_.hyperparameters(), weights_.embedding(), numbers, hidden);
    const model::LayerInputs layer_inputs{.hidden = hidden,
                                          .positions = numbers,
                                          .cells = cells,
                                          .k_cache = cache_.k(layer),
                                          .v_cache = cache_.v(layer),
                                          .rope_factors = weights_.rope_factors(),
                                          .temperatures = temperatures,
                                          .spans = std::span(&span, 1),
                                          .states = std::span(&state, 1),
                                          .only_state = only_state,
                                          .kernels = nullptr};
    const model::KeptRows kept{
        .kind = model::KeptRows::Kind::kSome, .rows = numbers, .destination = rows_of(context, head_rows_, 0, rows)};
    build_layer(context, graph, model_.hyperparameters(), model_.description(), layer, weights_.layer(layer),
                layer_inputs, kept);
    TRY(device_.check_supported(graph));
  }
  if (layers.end == shape_.layer_count) {
    ggml_context* context = fresh_graph_context();
    ggml_cgraph* graph = ggml_new_graph_custom(context, graph_size_, false);
    build_head(context, graph, model_.hyperparameters(), model_.description(), weights_.head(),
               rows_of(context, head_rows_, 0, rows), nullptr);
    TRY(device_.check_supported(graph));
  }
  return {};
}

void ForwardPass::list_runs(const Batch& batch) {
  runs_.clear();
  as_steps_ = false;
  for (std::size_t index = 0; index < batch.spans.size(); ++index) {
    const BatchSpan& span = batch.spans[index];
    const bool one_by_one = span.rows == SpanRows::kAsSteps;
    as_steps_ = as_steps_ || one_by_one;
    const std::uint32_t count = one_by_one ? 1 : span.token_count;
    for (std::uint32_t done = 0; done < span.token_count; done += count) {
      runs_.push_back({index, span.first_position + done, count});
    }
  }
}

void ForwardPass::make_masks(WindowInputs& inputs) {
  std::uint32_t row = 0;
  for (const RowRun& run : runs_) {
    const std::uint32_t first_seen = model::block_below(first_visible(run.first_position, inputs.window));
    const std::uint32_t seen_end = model::block_above(run.first_position + run.count);
    inputs.spans.push_back(
        {.first_row = row,
         .row_count = run.count,
         .first_cell = static_cast<std::uint64_t>(inputs.origins[run.span] + first_seen),
         .kv_count = seen_end - first_seen,
         .mask = ggml_new_tensor_2d(input_context_.get(), GGML_TYPE_F16, seen_end - first_seen, run.count),
         .first_row_cell = run.first_position - first_seen,
         .window = inputs.window});
    row += run.count;
  }
}

void ForwardPass::fill_mask(const RowRun& run, std::uint32_t window, ggml_tensor* mask) {
  const std::uint32_t first_seen = model::block_below(first_visible(run.first_position, window));
  const auto columns = static_cast<std::size_t>(mask->ne[0]);
  mask_row_.resize(columns * run.count);
  for (std::uint32_t row = 0; row < run.count; ++row) {
    const std::uint32_t position = run.first_position + row;
    const auto begin = mask_row_.begin() + static_cast<std::ptrdiff_t>(row * columns);
    const std::uint32_t from = first_visible(position, window) - first_seen;
    const std::uint32_t to = position + 1 - first_seen;
    std::fill(begin, begin + from, kHidden);
    std::fill(begin + from, begin + to, kVisible);
    std::fill(begin + to, begin + static_cast<std::ptrdiff_t>(columns), kHidden);
  }
  set(mask, mask_row_);
}

Result<void> ForwardPass::place_inputs() {
  const std::size_t alignment = std::max<std::size_t>(64, ggml_backend_buft_get_alignment(device_.memory()));
  std::size_t total = 0;
  for (ggml_tensor* tensor = ggml_get_first_tensor(input_context_.get()); tensor != nullptr;
       tensor = ggml_get_next_tensor(input_context_.get(), tensor)) {
    total += round_up_to(ggml_backend_buft_get_alloc_size(device_.memory(), tensor), alignment);
  }
  if (input_buffer_ == nullptr || ggml_backend_buffer_get_size(input_buffer_.get()) < total) {
    input_buffer_.reset();
    // Masks grow with the context: some room ahead, so that not every chunk allocates anew.
    input_buffer_ = TRY(device_.allocate(device_.memory(), total + total / 2));
    ggml_backend_buffer_set_usage(input_buffer_.get(), GGML_BACKEND_BUFFER_USAGE_COMPUTE);
  }
  auto* address = static_cast<std::byte*>(ggml_backend_buffer_get_base(input_buffer_.get()));
  for (ggml_tensor* tensor = ggml_get_first_tensor(input_context_.get()); tensor != nullptr;
       tensor = ggml_get_next_tensor(input_context_.get(), tensor)) {
    if (ggml_backend_tensor_alloc(input_buffer_.get(), tensor, address) != GGML_STATUS_SUCCESS) {
      return fail(ErrorCode::kInternal, "cannot place a pass's inputs");
    }
    address += round_up_to(ggml_backend_buft_get_alloc_size(device_.memory(), tensor), alignment);
  }
  return {};
}

Result<void> ForwardPass::prepare_inputs(const Batch& batch) {
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> kept;
  for (const BatchSpan& span : batch.spans) {
    const std::uint32_t last = span.token_count - 1;
    for (std::uint32_t index = 0; index < span.token_count; ++index) {
      const bool wants = span.logits == WantedLogits::kAll || (span.logits == WantedLogits::kLast && index == last);
      if (wants) kept.push_back(static_cast<std::int32_t>(positions.size()));
      positions.push_back(static_cast<std::int32_t>(span.first_position + index));
    }
  }
  row_count_ = static_cast<std::uint32_t>(positions.size());
  kept_count_ = static_cast<std::uint32_t>(kept.size());

  choose_inputs(batch);
  list_runs(batch);
  input_context_ = make_context(5 + windows_.size() * (runs_.size() + 1));
  ggml_context* context = input_context_.get();
  positions_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, row_count_);
  tokens_ = batch.layers.begin == 0 ? ggml_new_tensor_1d(context, GGML_TYPE_I32, row_count_) : nullptr;
  const model::Hyperparameters& numbers = model_.hyperparameters();
  temperatures_ =
      numbers.temperature_slope == 0 ? nullptr : ggml_new_tensor_3d(context, GGML_TYPE_F32, 1, 1, row_count_);
  only_state_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, 1);
  kept_ = kept.empty() ? nullptr : ggml_new_tensor_1d(context, GGML_TYPE_I32, kept_count_);
  for (WindowInputs& inputs : windows_) {
    inputs.cells = ggml_new_tensor_1d(context, GGML_TYPE_I64, row_count_);
    make_masks(inputs);
  }
  TRY(place_inputs());

  set(positions_, positions);
  set(kept_, kept);
  set(only_state_, std::vector<std::int32_t>{0});
  if (temperatures_ != nullptr) set(temperatures_, query_temperatures(numbers, positions));
  if (tokens_ != nullptr) ggml_backend_tensor_set(tokens_, batch.tokens.data(), 0, batch.tokens.size_bytes());
  if (tokens_ == nullptr) ggml_backend_tensor_set(hidden_, batch.hidden.data(), 0, batch.hidden.size_bytes());
  for (const WindowInputs& inputs : windows_) {
    std::vector<std::int64_t> cells;
    for (std::size_t index = 0; index < runs_.size(); ++index) {
      const RowRun& run = runs_[index];
      for (std::uint32_t token = 0; token < run.count; ++token) {
        cells.push_back(inputs.origins[run.span] + run.first_position + token);
      }
      fill_mask(run, inputs.window, inputs.spans[index].mask);
    }
    set(inputs.cells, cells);
  }
  return {};
}

// Attention reads whole blocks and hides what lies behind the last token; but infinities or NaNs left there by an
// earlier sequence would show through a weight of zero.
void ForwardPass::move_windows(const Batch& batch) {
  for (const BatchSpan& span : batch.spans) {
    for (std::uint32_t layer = batch.layers.begin; layer < batch.layers.end; ++layer) {
      cache_.prepare(layer, span.sequence->rows_[layer].prepare_pass(span.first_position, span.token_count));
    }
  }
}

void ForwardPass::choose_inputs(const Batch& batch) {
  windows_.clear();
  window_of_layer_.resize(shape_.layer_count);
  for (std::uint32_t layer = batch.layers.begin; layer < batch.layers.end; ++layer) {
    WindowInputs inputs{.window = shape_.layers[layer].attention_window, .origins = {}, .cells = nullptr, .spans = {}};
    for (const BatchSpan& span : batch.spans) inputs.origins.push_back(span.sequence->rows_[layer].origin());
    const auto same = std::ranges::find_if(windows_, [&](const WindowInputs& known) {
      return known.window == inputs.window && known.origins == inputs.origins;
    });
    window_of_layer_[layer] = static_cast<std::size_t>(same - windows_.begin());
    if (same == windows_.end()) windows_.push_back(std::move(inputs));
  }
}

void ForwardPass::begin_states(const Batch& batch, std::uint32_t layer) {
  states_.clear();
  if (!shape_.layers[layer].memory.keeps_state()) return;
  for (const BatchSpan& span : batch.spans) {
    SequenceStates& states = *span.sequence->states_;
    if (span.first_position == 0) states.clear(layer);
    states.set_position(layer, std::nullopt);
    states_.push_back(states.tensor(layer));
  }
}

void ForwardPass::end_states(const Batch& batch, std::uint32_t layer) {
  if (!shape_.layers[layer].memory.keeps_state()) return;
  for (const BatchSpan& span : batch.spans) {
    span.sequence->states_->set_position(layer, span.first_position + span.token_count);
  }
}

Result<void> ForwardPass::compute(ggml_cgraph* graph, ggml_gallocr* allocator) {
  if (!ggml_gallocr_alloc_graph(allocator, graph)) {
    return fail(ErrorCode::kNoCapacity, "no memory for a layer's activations; try a smaller --chunk");
  }
  return device_.compute(graph);
}

Result<void> ForwardPass::embed() {
  ggml_context* context = fresh_graph_context();
  ggml_cgraph* graph = ggml_new_graph_custom(context, graph_size_, false);
  build_embedding(context, graph, model_.hyperparameters(), weights_.embedding(), tokens_,
                  rows_of(context, hidden_, 0, row_count_));
  return compute(graph, head_allocator_.get());
}

Result<void> ForwardPass::run_layer(const Batch& batch, std::uint32_t layer) {
  begin_states(batch, layer);
  if (kernels_ != nullptr) {
    kernels_->begin_layer(layer, row_count_, as_steps_ ? SpanRows::kAsSteps : SpanRows::kTogether);
  }
  ggml_context* context = fresh_graph_context();
  ggml_cgraph* graph = ggml_new_graph_custom(context, graph_size_, false);
  const model::LayerInputs inputs{.hidden = rows_of(context, hidden_, 0, row_count_),
                                  .positions = positions_,
                                  .cells = inputs_for(layer).cells,
                                  .k_cache = cache_.k(layer),
                                  .v_cache = cache_.v(layer),
                                  .rope_factors = weights_.rope_factors(),
                                  .temperatures = temperatures_,
                                  .spans = inputs_for(layer).spans,
                                  .states = states_,
                                  .only_state = only_state_,
                                  .kernels = kernels_};
  model::KeptRows kept;
  if (layer + 1 == shape_.layer_count) {
    kept.kind = kept_count_ == 0 ? model::KeptRows::Kind::kNone : model::KeptRows::Kind::kSome;
    if (kept_count_ > 0) {
      kept.rows = kept_;
      kept.destination = rows_of(context, head_rows_, 0, kept_count_);
    }
  }
  build_layer(context, graph, model_.hyperparameters(), model_.description(), layer, weights_.layer(layer), inputs,
              kept);
  TRY(compute(graph, layer_allocator_.get()));
  if (kernels_ != nullptr) TRY(kernels_->take_result());
  end_states(batch, layer);
  return {};
}

Result<void> ForwardPass::run_head(HeadResult kind, std::span<float> logits) {
  const std::size_t width = head_width(shape_, kind);
  for (std::uint32_t first = 0; first < kept_count_; first += kHeadRows) {
    const std::uint32_t count = std::min(kHeadRows, kept_count_ - first);
    ggml_context* context = fresh_graph_context();
    ggml_cgraph* graph = ggml_new_graph_custom(context, graph_size_, false);
    ggml_tensor* rows = rows_of(context, head_rows_, first, count);
    ggml_tensor* result =
        kind == HeadResult::kNormed
            ? build_output_norm(context, graph, model_.hyperparameters(), model_.description(), weights_.head(), rows)
            : build_head(context, graph, model_.hyperparameters(), model_.description(), weights_.head(), rows,
                         kernels_);
    ggml_set_output(result);
    TRY(compute(graph, head_allocator_.get()));
    if (kernels_ != nullptr) TRY(kernels_->take_result());
    ggml_backend_tensor_get(result, logits.data() + first * width, 0, count * width * sizeof(float));
  }
  return {};
}

Result<void> ForwardPass::run_layers(const Batch& batch, LayerObserver* observer, Emulation* emulation,
                                     std::uint32_t& done) {
  TRY(prepare_inputs(batch));
  if (batch.layers.begin == 0) TRY(embed());
  std::vector<model::TokenRun> runs;
  for (const BatchSpan& span : batch.spans) runs.push_back({span.first_position, span.token_count});
  for (std::uint32_t layer = batch.layers.begin; layer < batch.layers.end; ++layer) {
    TRY(run_layer(batch, layer));
    ++done;
    const KvLayout& layout = cache_.layout(layer);
    const double kv_bytes = layout.k_row_bytes + layout.v_row_bytes;
    if (emulation != nullptr) emulation->finish(model::layer_cost(shape_, layer, runs, kv_bytes));
    if (observer != nullptr && observer->layer_done(layer) == LayerObserver::Next::kStop) {
      return fail(ErrorCode::kCancelled, "the pass was stopped between two layers");
    }
  }
  return {};
}

Result<void> ForwardPass::run(const Batch& batch, const Outputs& outputs, LayerObserver* observer,
                              Emulation* emulation) {
  if (emulation != nullptr) emulation->begin_pass();
  move_windows(batch);
  std::uint32_t done = 0;
  if (const auto ran = run_layers(batch, observer, emulation, done); !ran) {
    // What no layer computed must not pass for being there.
    for (const BatchSpan& span : batch.spans) {
      for (std::uint32_t layer = batch.layers.begin + done; layer < batch.layers.end; ++layer) {
        span.sequence->rows_[layer].take_back(span.first_position);
      }
    }
    return ran;
  }
  if (batch.layers.end < shape_.layer_count) {
    ggml_backend_tensor_get(hidden_, outputs.hidden.data(), 0, outputs.hidden.size_bytes());
    return {};
  }
  TRY(run_head(batch.head, outputs.logits));
  if (emulation != nullptr && kept_count_ > 0 && batch.head == HeadResult::kLogits)
    emulation->finish(model::head_cost(shape_, kept_count_));
  return {};
}

}  // namespace baton::engine
