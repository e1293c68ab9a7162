#include "engine/prefill_kernels.h"

#include <ggml.h>

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

namespace baton::engine {

namespace {

// A pass of so many rows is done sooner when it waits for a layer than when it computes without.
constexpr std::uint32_t kRowsWorthWaiting = 128;
// So little is packed sooner than anyone notices: a pass of any size waits, and its bits never depend on chance.
constexpr std::uint64_t kPackedAtOnceBytes = 64U << 20U;
// With fewer rows for each matrix, bringing its weights into order is what takes the time, and ggml is as fast.
std::int64_t least_rows(CodeWidth width) { return width == CodeWidth::k8 ? 32 : PrefillKernels::kLeastRows; }

// The rows of activations by the matrix that multiplies them. `chosen` is I32 [used, tokens], rows with gaps between.
std::vector<RowGroup> groups_of(const ggml_tensor* chosen, std::int64_t rows, std::int64_t matrices) {
  if (chosen == nullptr) return one_group(rows);
  std::vector<std::int32_t> all;
  all.reserve(static_cast<std::size_t>(rows));
  for (std::int64_t token = 0; token < chosen->ne[1]; ++token) {
    const auto* some =
        reinterpret_cast<const std::int32_t*>(static_cast<const std::byte*>(chosen->data) + token * chosen->nb[1]);
    all.insert(all.end(), some, some + chosen->ne[0]);
  }
  return groups_by_matrix(all, matrices);
}

}  // namespace

PrefillKernels::PrefillKernels(PrefillWeights& weights, const StepWeights& step_weights)
    : weights_(weights), step_weights_(step_weights) {}

void PrefillKernels::begin_layer(std::uint32_t layer, std::uint32_t rows, SpanRows kind) {
  layer_ = layer;
  kind_ = kind;
  tiles_.clear();
  attentions_.clear();
  if (kind == SpanRows::kAsSteps || rows < kLeastRows || weights_.is_packed(layer)) return;
  if (rows >= kRowsWorthWaiting || weights_.progress().total_bytes <= kPackedAtOnceBytes) {
    weights_.wait_until_packed(layer);
  }
}

ggml_tensor* PrefillKernels::multiply(ggml_context* context, model::LayerTensor weight, ggml_tensor* input) {
  const bool in_order = ggml_n_dims(input) <= 2 && ggml_is_contiguous(input);
  const bool many = input->ne[1] >= kLeastRows && kind_ == SpanRows::kTogether;
  const BlockMatrix* blocks = many && in_order ? weights_.find_blocks(layer_, weight) : nullptr;
  if (blocks != nullptr && input->ne[1] >= least_rows(blocks->width())) {
    return add_block_product(context, weight, *blocks, input, nullptr);
  }
  const KernelMatrix* matrix = many && in_order ? weights_.find(layer_, weight) : nullptr;
  if (matrix == nullptr) {
    return multiply_few(context, step_weights_.find(layer_, weight), step_products_[static_cast<std::size_t>(weight)],
                        input);
  }
  Product& product = products_[static_cast<std::size_t>(weight)];
  product = {matrix, this};
  return ggml_custom_4d(context, GGML_TYPE_F32, matrix->rows(), input->ne[1], 1, 1, &input, 1, compute_product,
                        GGML_N_TASKS_MAX, &product);
}

ggml_tensor* PrefillKernels::multiply_head(ggml_context* context, ggml_tensor* input) {
  return multiply_few(context, step_weights_.head(), head_product_, input);
}

ggml_tensor* PrefillKernels::multiply_few(ggml_context* context, const StepMatrix* matrix, StepProduct& product,
                                          ggml_tensor* input) {
  if (matrix == nullptr || ggml_n_dims(input) > 2 || !ggml_is_contiguous(input)) return nullptr;
  product = {matrix, this};
  return ggml_custom_4d(context, GGML_TYPE_F32, matrix->rows(), input->ne[1], 1, 1, &input, 1, compute_step_product,
                        GGML_N_TASKS_MAX, &product);
}

void PrefillKernels::compute_step_product(ggml_tensor* result, int thread, int threads, void* product) {
  const auto& [matrix, owner] = *static_cast<const StepProduct*>(product);
  const ggml_tensor* input = result->src[0];
  try {
    matrix->multiply(static_cast<const float*>(input->data), input->ne[1], static_cast<float*>(result->data), thread,
                     threads);
  } catch (const std::bad_alloc&) {
    owner->keep_first_error({ErrorCode::kNoCapacity, "no memory to round activations; try a smaller --chunk", {}});
  }
}

ggml_tensor* PrefillKernels::multiply_chosen(ggml_context* context, model::LayerTensor weight, ggml_tensor* input,
                                             ggml_tensor* chosen) {
  const BlockMatrix* blocks = weights_.find_blocks(layer_, weight);
  if (kind_ == SpanRows::kAsSteps || blocks == nullptr || !ggml_is_contiguous(input)) return nullptr;
  if (chosen->ne[0] * chosen->ne[1] < least_rows(blocks->width()) * blocks->form().matrices) return nullptr;
  return add_block_product(context, weight, *blocks, input, chosen);
}

ggml_tensor* PrefillKernels::tiles_of(ggml_context* context, const BlockMatrix& matrix, ggml_tensor* input,
                                      ggml_tensor* chosen) {
  const Tiles wanted{input, chosen, matrix.width(), matrix.form().matrices, nullptr};
  for (const Tiles& known : tiles_) {
    if (known.input == input && known.chosen == chosen && known.width == wanted.width) return known.made;
  }
  const std::int64_t rows = chosen == nullptr ? input->ne[1] : chosen->ne[0] * chosen->ne[1];
  const std::int64_t bytes = most_tiles(rows, wanted.matrices) * tile_bytes(wanted.width, input->ne[0]);
  tiles_.push_back(wanted);
  ggml_tensor* inputs[] = {input, chosen};
  tiles_.back().made = ggml_custom_4d(context, GGML_TYPE_I8, bytes, 1, 1, 1, inputs, chosen == nullptr ? 1 : 2,
                                      compute_tiles, GGML_N_TASKS_MAX, &tiles_.back());
  return tiles_.back().made;
}

ggml_tensor* PrefillKernels::add_block_product(ggml_context* context, model::LayerTensor weight,
                                               const BlockMatrix& matrix, ggml_tensor* input, ggml_tensor* chosen) {
  BlockProduct& product = block_products_[static_cast<std::size_t>(weight)];
  product = {&matrix, this};
  ggml_tensor* inputs[] = {tiles_of(context, matrix, input, chosen), chosen};
  const std::int64_t rows = matrix.form().rows;
  if (chosen == nullptr) {
    return ggml_custom_4d(context, GGML_TYPE_F32, rows, input->ne[1], 1, 1, inputs, 1, compute_block_product,
                          GGML_N_TASKS_MAX, &product);
  }
  return ggml_custom_4d(context, GGML_TYPE_F32, rows, chosen->ne[0], chosen->ne[1], 1, inputs, 2, compute_block_product,
                        GGML_N_TASKS_MAX, &product);
}

void PrefillKernels::compute_tiles(ggml_tensor* result, int thread, int threads, void* tiles) {
  const Tiles& wanted = *static_cast<const Tiles*>(tiles);
  const ggml_tensor* input = result->src[0];
  const ggml_tensor* chosen = result->src[1];
  const std::int64_t inputs = input->ne[1] * input->ne[2];
  const std::int64_t rows = chosen == nullptr ? inputs : chosen->ne[0] * chosen->ne[1];
  make_tiles(wanted.width, input->ne[0], groups_of(chosen, rows, wanted.matrices),
             static_cast<const float*>(input->data), rows / inputs, static_cast<std::byte*>(result->data), thread,
             threads);
}

void PrefillKernels::compute_block_product(ggml_tensor* result, int thread, int threads, void* product) {
  const auto& [matrix, owner] = *static_cast<const BlockProduct*>(product);
  const std::int64_t rows = result->ne[1] * result->ne[2];
  auto done = matrix->multiply(groups_of(result->src[1], rows, matrix->form().matrices),
                               static_cast<const std::byte*>(result->src[0]->data), static_cast<float*>(result->data),
                               thread, threads);
  if (!done) owner->keep_first_error(std::move(done.error()));
}

void PrefillKernels::compute_product(ggml_tensor* result, int thread, int threads, void* product) {
  const auto& [matrix, owner] = *static_cast<const Product*>(product);
  const ggml_tensor* input = result->src[0];
  const std::int64_t first = result->ne[1] * thread / threads;
  const std::int64_t end = result->ne[1] * (thread + 1) / threads;
  if (first == end) return;
  auto done = matrix->multiply(static_cast<const float*>(input->data) + first * input->ne[0],
                               static_cast<float*>(result->data) + first * result->ne[0], end - first);
  if (!done) owner->keep_first_error(std::move(done.error()));
}

ggml_tensor* PrefillKernels::attend(ggml_context* context, ggml_tensor* query, ggml_tensor* keys, ggml_tensor* values,
                                    const model::AttentionSpan& span, float scale) {
  const bool in_order = ggml_is_contiguous(query) && query->type == GGML_TYPE_F32;
  if (kind_ == SpanRows::kAsSteps || span.row_count < kLeastRows || !in_order || keys->type != GGML_TYPE_F16 ||
      values->type != GGML_TYPE_F16 || span.kv_count % AttentionKernel::kCellTile != 0) {
    return nullptr;
  }
  auto kernel = find_attention_kernel({.heads = query->ne[1],
                                       .kv_heads = keys->ne[2],
                                       .key_width = keys->ne[0],
                                       .value_width = values->ne[0],
                                       .scale = scale});
  if (kernel == nullptr) return nullptr;
  attentions_.push_back({std::move(kernel), span, this});
  ggml_tensor* inputs[] = {query, keys, values};
  return ggml_custom_4d(context, GGML_TYPE_F32, values->ne[0] * query->ne[1], span.row_count, 1, 1, inputs, 3,
                        compute_attention, GGML_N_TASKS_MAX, &attentions_.back());
}

void PrefillKernels::compute_attention(ggml_tensor* result, int thread, int threads, void* attention) {
  const auto& [kernel, span, owner] = *static_cast<const Attention*>(attention);
  auto done = kernel->compute({.queries = static_cast<const float*>(result->src[0]->data),
                               .keys = static_cast<const std::byte*>(result->src[1]->data),
                               .values = static_cast<const std::byte*>(result->src[2]->data),
                               .rows = span.row_count,
                               .first_row = span.first_row_cell,
                               .window = span.window,
                               .results = static_cast<float*>(result->data)},
                              thread, threads);
  if (!done) owner->keep_first_error(std::move(done.error()));
}

void PrefillKernels::keep_first_error(Error error) {
  const std::lock_guard lock(mutex_);
  if (result_) result_ = std::unexpected(std::move(error));
}

Result<void> PrefillKernels::take_result() {
  const std::lock_guard lock(mutex_);
  return std::exchange(result_, {});
}

}  // namespace baton::engine
