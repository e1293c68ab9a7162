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
std::int64_t least_rows(CodeWidth width) { return width == CodeWidth::k16 ? PrefillKernels::kLeastRows : 32; }

// The rows of activations by the expert that multiplies them. `chosen` is I32 [used, tokens], rows with gaps between.
std::vector<RowGroup> groups_of(const ggml_tensor& chosen, std::int64_t matrices) {
  std::vector<std::int32_t> all;
  all.reserve(static_cast<std::size_t>(chosen.ne[0] * chosen.ne[1]));
  for (std::int64_t token = 0; token < chosen.ne[1]; ++token) {
    const auto* some =
        reinterpret_cast<const std::int32_t*>(static_cast<const std::byte*>(chosen.data) + token * chosen.nb[1]);
    all.insert(all.end(), some, some + chosen.ne[0]);
  }
  return groups_by_matrix(all, matrices);
}

}  // namespace

PrefillKernels::PrefillKernels(PrefillWeights& weights, const StepWeights& step_weights)
    : weights_(weights), step_weights_(step_weights) {}

template <typename Compute>
void PrefillKernels::guarded(const Compute& compute) {
  try {
    Result<void> done = compute();
    if (!done) keep_first_error(std::move(done.error()));
  } catch (const std::bad_alloc&) {
    out_of_memory_ = true;
  }
}

void PrefillKernels::begin_layer(std::uint32_t layer, std::uint32_t rows, SpanRows kind) {
  layer_ = layer;
  kind_ = kind;
  step_products_.clear();
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
    return multiply_few(context, step_weights_.find(layer_, weight), input);
  }
  Product& product = products_[static_cast<std::size_t>(weight)];
  product = {matrix, this};
  return ggml_custom_4d(context, GGML_TYPE_F32, matrix->rows(), input->ne[1], 1, 1, &input, 1, compute_product,
                        GGML_N_TASKS_MAX, &product);
}

ggml_tensor* PrefillKernels::multiply_head(ggml_context* context, ggml_tensor* input) {
  step_products_.clear();
  return multiply_few(context, step_weights_.head(), input);
}

ggml_tensor* PrefillKernels::multiply_few(ggml_context* context, const StepMatrix* matrix, ggml_tensor* input) {
  if (matrix == nullptr || ggml_n_dims(input) > 2 || !ggml_is_contiguous(input)) return nullptr;
  StepProduct& product = step_products_.emplace_back();
  product.matrix = matrix;
  product.owner = this;
  return ggml_custom_4d(context, GGML_TYPE_F32, matrix->rows(), input->ne[1], 1, 1, &input, 1, compute_step_product,
                        GGML_N_TASKS_MAX, &product);
}

void PrefillKernels::compute_step_product(ggml_tensor* result, int /*thread*/, int threads, void* product) {
  StepProduct& wanted = *static_cast<StepProduct*>(product);
  const ggml_tensor* input = result->src[0];
  wanted.owner->guarded([&]() -> Result<void> {
    wanted.matrix->multiply(static_cast<const float*>(input->data), input->ne[1], static_cast<float*>(result->data),
                            wanted.taken, threads);
    return {};
  });
}

ggml_tensor* PrefillKernels::multiply_chosen(ggml_context* context, model::LayerTensor weight, ggml_tensor* input,
                                             ggml_tensor* chosen) {
  const BlockMatrix* blocks = weights_.find_blocks(layer_, weight);
  if (kind_ == SpanRows::kAsSteps || blocks == nullptr || !ggml_is_contiguous(input)) return nullptr;
  if (chosen->ne[0] * chosen->ne[1] < least_rows(blocks->width()) * blocks->form().matrices) return nullptr;
  return add_block_product(context, weight, *blocks, input, chosen);
}

const PrefillKernels::Tiles& PrefillKernels::tiles_of(ggml_context* context, const BlockMatrix& matrix,
                                                      ggml_tensor* input, ggml_tensor* chosen) {
  for (const Tiles& known : tiles_) {
    if (known.input == input && known.chosen == chosen && known.width == matrix.width()) return known;
  }
  const std::int64_t matrices = matrix.form().matrices;
  const std::int64_t rows = chosen == nullptr ? input->ne[1] : chosen->ne[0] * chosen->ne[1];
  const std::int64_t bytes = most_tiles(rows, matrices) * tile_bytes(matrix.width(), input->ne[0]);
  Tiles& tiles = tiles_.emplace_back();
  tiles.input = input;
  tiles.chosen = chosen;
  tiles.width = matrix.width();
  tiles.matrices = matrices;
  tiles.owner = this;
  if (chosen == nullptr) tiles.groups = one_group(rows);
  ggml_tensor* inputs[] = {input, chosen};
  tiles.made = ggml_custom_4d(context, GGML_TYPE_I8, bytes, 1, 1, 1, inputs, chosen == nullptr ? 1 : 2, compute_tiles,
                              GGML_N_TASKS_MAX, &tiles);
  return tiles;
}

ggml_tensor* PrefillKernels::add_block_product(ggml_context* context, model::LayerTensor weight,
                                               const BlockMatrix& matrix, ggml_tensor* input, ggml_tensor* chosen) {
  BlockProduct& product = block_products_[static_cast<std::size_t>(weight)];
  product = {&matrix, &tiles_of(context, matrix, input, chosen), this};
  ggml_tensor* inputs[] = {product.tiles->made, chosen};
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
  wanted.owner->guarded([&]() -> Result<void> {
    const auto* values = static_cast<const float*>(input->data);
    auto* made = static_cast<std::byte*>(result->data);
    if (chosen == nullptr) {
      make_tiles(wanted.width, input->ne[0], wanted.groups, values, 1, made, thread, threads);
    } else {
      const std::int64_t rows_per_input = chosen->ne[0] * chosen->ne[1] / (input->ne[1] * input->ne[2]);
      make_tiles(wanted.width, input->ne[0], groups_of(*chosen, wanted.matrices), values, rows_per_input, made, thread,
                 threads);
    }
    return {};
  });
}

void PrefillKernels::compute_block_product(ggml_tensor* result, int thread, int threads, void* product) {
  const BlockProduct& wanted = *static_cast<const BlockProduct*>(product);
  const ggml_tensor* chosen = result->src[1];
  wanted.owner->guarded([&] {
    const auto* tiles = static_cast<const std::byte*>(result->src[0]->data);
    auto* results = static_cast<float*>(result->data);
    if (chosen == nullptr) {
      return wanted.matrix->multiply(wanted.tiles->groups, tiles, results, thread, threads);
    }
    return wanted.matrix->multiply(groups_of(*chosen, wanted.tiles->matrices), tiles, results, thread, threads);
  });
}

void PrefillKernels::compute_product(ggml_tensor* result, int thread, int threads, void* product) {
  const auto& [matrix, owner] = *static_cast<const Product*>(product);
  const ggml_tensor* input = result->src[0];
  const std::int64_t first = result->ne[1] * thread / threads;
  const std::int64_t end = result->ne[1] * (thread + 1) / threads;
  if (first == end) return;
  owner->guarded([&, matrix = matrix] {
    return matrix->multiply(static_cast<const float*>(input->data) + first * input->ne[0],
                            static_cast<float*>(result->data) + first * result->ne[0], end - first);
  });
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
  owner->guarded([&, &kernel = kernel, &span = span] {
    return kernel->compute({.queries = static_cast<const float*>(result->src[0]->data),
                            .keys = static_cast<const std::byte*>(result->src[1]->data),
                            .values = static_cast<const std::byte*>(result->src[2]->data),
                            .rows = span.row_count,
                            .first_row = span.first_row_cell,
                            .window = span.window,
                            .results = static_cast<float*>(result->data)},
                           thread, threads);
  });
}

void PrefillKernels::keep_first_error(Error error) {
  const std::lock_guard lock(mutex_);
  if (result_) result_ = std::unexpected(std::move(error));
}

Result<void> PrefillKernels::take_result() {
  const std::lock_guard lock(mutex_);
  Result<void> first = std::exchange(result_, {});
  if (out_of_memory_.exchange(false) && first) {
    return fail(ErrorCode::kNoCapacity, "no memory to round activations; try a smaller --chunk");
  }
  return first;
}

}  // namespace baton::engine
