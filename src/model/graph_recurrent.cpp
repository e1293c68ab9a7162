// Layers that keep a state instead of a row per token. Matrices multiply all rows of a batch at once; what follows runs
// span by span, each on the state of its own sequence.
#include "model/layer_scope.h"

namespace baton::model {

namespace {

constexpr std::size_t kF32Bytes = sizeof(float);

// Columns `first` .. `first + count` of every row.
ggml_tensor* columns(ggml_context* context, ggml_tensor* x, std::int64_t first, std::int64_t count) {
  return ggml_view_2d(context, x, count, x->ne[1], x->nb[1], static_cast<std::size_t>(first) * kF32Bytes);
}

ggml_tensor* rows_of_span(ggml_context* context, ggml_tensor* x, const AttentionSpan& span) {
  return ggml_view_2d(context, x, x->ne[0], span.row_count, x->nb[1], span.first_row * x->nb[1]);
}

// The span's rows one after the other behind those that the state remembers, each channel weighed over the last few;
// the state's first elements, [taps - 1, channels], then hold the last of them.
ggml_tensor* convolve(const LayerScope& scope, ggml_tensor* rows, ggml_tensor* state) {
  ggml_context* context = scope.context;
  ggml_tensor* kernel = scope.weight(LayerTensor::kConvolution);
  const std::int64_t kept = kernel->ne[0] - 1;
  ggml_tensor* before = ggml_view_2d(context, state, kept, rows->ne[0], static_cast<std::size_t>(kept) * kF32Bytes, 0);
  ggml_tensor* inputs = ggml_concat(context, before, ggml_transpose(context, rows), 0);
  ggml_tensor* last = ggml_view_2d(context, inputs, kept, inputs->ne[1], inputs->nb[1],
                                   static_cast<std::size_t>(rows->ne[1]) * kF32Bytes);
  ggml_build_forward_expand(scope.graph, ggml_cpy(context, last, before));
  ggml_tensor* result = ggml_ssm_conv(context, inputs, kernel);
  return ggml_reshape_2d(context, result, rows->ne[0], rows->ne[1]);
}

template <typename Part>
ggml_tensor* joined_over_spans(const LayerScope& scope, const Part& part) {
  ggml_tensor* joined = nullptr;
  for (std::size_t index = 0; index < scope.inputs.spans.size(); ++index) {
    ggml_tensor* rows = part(scope.inputs.spans[index], scope.inputs.states[index]);
    joined = joined == nullptr ? rows : ggml_concat(scope.context, joined, rows, 1);
  }
  return joined;
}

// One span through the state space: `mixed` [channels, rows] is input, then what writes and what reads the state;
// `steps` [heads, rows].
ggml_tensor* scan(const LayerScope& scope, ggml_tensor* mixed, ggml_tensor* steps, ggml_tensor* state) {
  ggml_context* context = scope.context;
  const Recurrence& sizes = scope.hyperparameters.recurrence;
  const std::int64_t rows = mixed->ne[1];
  const std::int64_t width = sizes.inner_width / sizes.heads;
  const auto part = [&](std::int64_t length, std::int64_t count, std::int64_t first) {
    return ggml_view_4d(context, mixed, length, count, rows, 1, static_cast<std::size_t>(length) * kF32Bytes,
                        mixed->nb[1], mixed->nb[1] * static_cast<std::size_t>(rows),
                        static_cast<std::size_t>(first) * kF32Bytes);
  };
  const std::int64_t written = sizes.inner_width;
  const std::int64_t read = written + std::int64_t{sizes.groups} * sizes.state_elements;
  ggml_tensor* input = part(width, sizes.heads, 0);
  ggml_tensor* writes = part(sizes.state_elements, sizes.groups, written);
  ggml_tensor* reads = part(sizes.state_elements, sizes.groups, read);

  const std::size_t convolution_bytes = std::size_t{sizes.taps - 1} * sizes.convolved_channels() * kF32Bytes;
  const std::int64_t remembered = std::int64_t{sizes.inner_width} * sizes.state_elements;
  ggml_tensor* memory = ggml_view_1d(context, state, remembered, convolution_bytes);
  ggml_tensor* shaped = ggml_reshape_4d(context, memory, sizes.state_elements, width, sizes.heads, 1);
  ggml_tensor* both = ggml_ssm_scan(context, shaped, input, ggml_reshape_3d(context, steps, sizes.heads, rows, 1),
                                    scope.weight(LayerTensor::kDecay), writes, reads, scope.inputs.only_state, 1);
  // What came out, and behind it the state after the last row.
  const std::size_t out_bytes = static_cast<std::size_t>(rows) * sizes.inner_width * kF32Bytes;
  ggml_build_forward_expand(scope.graph, ggml_cpy(context, ggml_view_1d(context, both, remembered, out_bytes), memory));
  const std::size_t head_bytes = static_cast<std::size_t>(width) * kF32Bytes;
  ggml_tensor* out = ggml_view_3d(context, both, width, sizes.heads, rows, head_bytes, head_bytes * sizes.heads, 0);
  input = ggml_view_3d(context, input, width, sizes.heads, rows, input->nb[1], input->nb[2], 0);
  out = ggml_add(context, out, ggml_mul(context, input, scope.weight(LayerTensor::kSkip)));
  return ggml_reshape_2d(context, out, sizes.inner_width, rows);
}

}  // namespace

ggml_tensor* build_short_convolution(const LayerScope& scope, ggml_tensor* normed) {
  ggml_context* context = scope.context;
  ggml_tensor* parts = scope.project(normed, LayerTensor::kMixerInput);
  const std::int64_t width = parts->ne[0] / 3;
  ggml_tensor* before = columns(context, parts, 0, width);
  ggml_tensor* after = columns(context, parts, width, width);
  ggml_tensor* gated = ggml_mul(context, before, columns(context, parts, 2 * width, width));
  ggml_tensor* result = joined_over_spans(scope, [&](const AttentionSpan& span, ggml_tensor* state) {
    return convolve(scope, rows_of_span(context, gated, span), state);
  });
  return ggml_mul(context, after, result);
}

ggml_tensor* build_state_space(const LayerScope& scope, ggml_tensor* normed) {
  ggml_context* context = scope.context;
  const Recurrence& sizes = scope.hyperparameters.recurrence;
  const std::int64_t inner = sizes.inner_width;
  const std::int64_t channels = sizes.convolved_channels();
  ggml_tensor* parts = scope.project(normed, LayerTensor::kMixerInput);
  ggml_tensor* gate = columns(context, parts, 0, inner);
  ggml_tensor* convolved = columns(context, parts, inner, channels);
  ggml_tensor* steps = ggml_cont(context, columns(context, parts, inner + channels, sizes.heads));
  steps = ggml_add(context, steps, scope.weight(LayerTensor::kStepBias));
  ggml_tensor* bias = scope.weight(LayerTensor::kConvolutionBias);
  ggml_tensor* result = joined_over_spans(scope, [&](const AttentionSpan& span, ggml_tensor* state) {
    ggml_tensor* mixed = convolve(scope, rows_of_span(context, convolved, span), state);
    if (bias != nullptr) mixed = ggml_add(context, mixed, bias);
    return scan(scope, ggml_silu(context, mixed), rows_of_span(context, steps, span), state);
  });
  result = ggml_swiglu_split(context, ggml_cont(context, gate), result);
  ggml_tensor* norm = scope.weight(LayerTensor::kStateNorm);
  if (norm == nullptr) return result;
  const std::int64_t rows = result->ne[1];
  result = ggml_reshape_3d(context, result, inner / sizes.groups, sizes.groups, rows);
  result = ggml_mul(context, ggml_rms_norm(context, result, scope.hyperparameters.norm_epsilon), norm);
  return ggml_reshape_2d(context, result, inner, rows);
}

}  // namespace baton::model
