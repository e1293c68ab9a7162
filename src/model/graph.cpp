#include "model/graph.h"

#include <ggml.h>

namespace baton::model {

namespace {

class LayerBuilder {
 public:
  LayerBuilder(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
               const Description& description, std::uint32_t layer, const LayerWeights& weights,
               const LayerInputs& inputs)
      : context_(context),
        graph_(graph),
        hyperparameters_(hyperparameters),
        shape_(hyperparameters.shape),
        description_(description),
        layer_(hyperparameters.layers[layer]),
        weights_(weights),
        inputs_(inputs),
        rows_(inputs.hidden->ne[1]) {}

  void build(const KeptRows& kept) {
    ggml_tensor* normed = norm(inputs_.hidden, LayerTensor::kAttentionNorm);
    const bool wants_rows = kept.kind != KeptRows::Kind::kNone;
    ggml_tensor* query = wants_rows ? make_query(normed) : nullptr;
    store_key_and_value(normed);
    if (!wants_rows) return;

    ggml_tensor* attended = attend(query);
    ggml_tensor* stream = inputs_.hidden;
    if (kept.kind == KeptRows::Kind::kSome) {
      attended = ggml_get_rows(context_, attended, kept.rows);
      stream = ggml_get_rows(context_, stream, kept.rows);
    }
    attended = project(attended, LayerTensor::kAttentionOutput, LayerTensor::kAttentionOutputBias);
    stream = ggml_add_inplace(context_, stream, norm_if_there(attended, LayerTensor::kAttentionPostNorm));
    ggml_tensor* fed = feed_forward(norm(stream, LayerTensor::kFeedForwardNorm));
    stream = ggml_add_inplace(context_, stream, norm_if_there(fed, LayerTensor::kFeedForwardPostNorm));
    if (kept.kind == KeptRows::Kind::kSome) stream = ggml_cpy(context_, stream, kept.destination);
    ggml_build_forward_expand(graph_, stream);
  }

 private:
  ggml_tensor* norm(ggml_tensor* x, LayerTensor weight) {
    return ggml_mul(context_, ggml_rms_norm(context_, x, hyperparameters_.norm_epsilon), weights_.get(weight));
  }
  ggml_tensor* norm_if_there(ggml_tensor* x, LayerTensor weight) {
    return weights_.get(weight) == nullptr ? x : norm(x, weight);
  }
  ggml_tensor* multiply(LayerTensor weight, ggml_tensor* x) {
    ggml_tensor* y = inputs_.kernels == nullptr ? nullptr : inputs_.kernels->multiply(context_, weight, x);
    return y != nullptr ? y : ggml_mul_mat(context_, weights_.get(weight), x);
  }
  ggml_tensor* project(ggml_tensor* x, LayerTensor weight, LayerTensor bias) {
    ggml_tensor* y = multiply(weight, x);
    return weights_.get(bias) == nullptr ? y : ggml_add(context_, y, weights_.get(bias));
  }

  ggml_tensor* rotate(ggml_tensor* x) {
    const int mode = description_.rope == RopeKind::kHalves ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    // No YaRN: its extrapolation is off (0), magnitude is kept (1), and its two ramp bounds are not used.
    return ggml_rope_ext(context_, x, inputs_.positions, inputs_.rope_factors,
                         static_cast<int>(hyperparameters_.rope_width), mode,
                         static_cast<int>(hyperparameters_.rope_original_context_tokens), layer_.rope_base,
                         layer_.rope_scale, 0.0F, 1.0F, 32.0F, 1.0F);
  }

  ggml_tensor* make_query(ggml_tensor* normed) {
    ggml_tensor* query = project(normed, LayerTensor::kQuery, LayerTensor::kQueryBias);
    query = ggml_reshape_3d(context_, query, shape_.key_head_width, shape_.head_count, rows_);
    query = rotate(norm_if_there(query, LayerTensor::kQueryNorm));
    // Before K and V in the graph, so that the three matmuls of one input follow each other.
    ggml_build_forward_expand(graph_, query);
    return query;
  }

  void store_key_and_value(ggml_tensor* normed) {
    ggml_tensor* key = project(normed, LayerTensor::kKey, LayerTensor::kKeyBias);
    ggml_tensor* value = project(normed, LayerTensor::kValue, LayerTensor::kValueBias);
    ggml_build_forward_expand(graph_, value);
    key = ggml_reshape_3d(context_, key, shape_.key_head_width, shape_.kv_head_count, rows_);
    key = rotate(norm_if_there(key, LayerTensor::kKeyNorm));
    key = ggml_reshape_2d(context_, key, shape_.k_width(), rows_);
    ggml_build_forward_expand(graph_, ggml_set_rows(context_, inputs_.k_cache, key, inputs_.cells));
    ggml_build_forward_expand(graph_, ggml_set_rows(context_, inputs_.v_cache, value, inputs_.cells));
  }

  // [head width, count, kv heads] of consecutive cells.
  ggml_tensor* cached(ggml_tensor* cache, std::uint32_t head_width, const AttentionSpan& span) {
    return ggml_view_3d(context_, cache, head_width, span.kv_count, shape_.kv_head_count, cache->nb[1],
                        ggml_row_size(cache->type, head_width), span.first_cell * cache->nb[1]);
  }

  // `query` [head width, heads, the span's rows].
  ggml_tensor* attend_span(ggml_tensor* query, const AttentionSpan& span) {
    ggml_tensor* keys = cached(inputs_.k_cache, shape_.key_head_width, span);
    ggml_tensor* values = cached(inputs_.v_cache, shape_.value_head_width, span);
    const float scale = hyperparameters_.attention_scale;
    if (inputs_.kernels != nullptr) {
      ggml_tensor* out = inputs_.kernels->attend(context_, query, keys, values, span, scale);
      if (out != nullptr) return out;
    }
    query = ggml_permute(context_, query, 0, 2, 1, 3);
    ggml_tensor* out = ggml_flash_attn_ext(context_, query, keys, values, span.mask, scale, 0.0F, 0.0F);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    return ggml_reshape_2d(context_, out, std::int64_t{shape_.value_head_width} * shape_.head_count, span.row_count);
  }

  ggml_tensor* attend(ggml_tensor* query) {
    ggml_tensor* joined = nullptr;
    for (const AttentionSpan& span : inputs_.spans) {
      ggml_tensor* part = query;
      if (span.row_count != rows_) {
        part = ggml_view_3d(context_, query, query->ne[0], query->ne[1], span.row_count, query->nb[1], query->nb[2],
                            span.first_row * query->nb[2]);
      }
      ggml_tensor* out = attend_span(part, span);
      joined = joined == nullptr ? out : ggml_concat(context_, joined, out, 1);
    }
    return joined;
  }

  ggml_tensor* feed_forward(ggml_tensor* x) {
    ggml_tensor* up = project(x, LayerTensor::kUp, LayerTensor::kUpBias);
    ggml_build_forward_expand(graph_, up);
    ggml_tensor* gate = project(x, LayerTensor::kGate, LayerTensor::kGateBias);
    ggml_tensor* gated = description_.activation == Activation::kSilu ? ggml_swiglu_split(context_, gate, up)
                                                                      : ggml_geglu_split(context_, gate, up);
    return project(gated, LayerTensor::kDown, LayerTensor::kDownBias);
  }

  ggml_context* context_;
  ggml_cgraph* graph_;
  const Hyperparameters& hyperparameters_;
  const ModelShape& shape_;
  const Description& description_;
  const LayerHyperparameters& layer_;
  const LayerWeights& weights_;
  const LayerInputs& inputs_;
  std::int64_t rows_;
};

}  // namespace

void build_layer(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                 const Description& description, std::uint32_t layer, const LayerWeights& weights,
                 const LayerInputs& inputs, const KeptRows& kept) {
  LayerBuilder(context, graph, hyperparameters, description, layer, weights, inputs).build(kept);
}

void build_embedding(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                     ggml_tensor* table, ggml_tensor* tokens, ggml_tensor* hidden) {
  ggml_tensor* rows = ggml_get_rows(context, table, tokens);
  if (hyperparameters.embedding_scale != 1.0F) rows = ggml_scale(context, rows, hyperparameters.embedding_scale);
  ggml_build_forward_expand(graph, ggml_cpy(context, rows, hidden));
}

ggml_tensor* build_head(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                        ggml_tensor* norm, ggml_tensor* output, ggml_tensor* rows) {
  ggml_tensor* normed = ggml_mul(context, ggml_rms_norm(context, rows, hyperparameters.norm_epsilon), norm);
  ggml_tensor* logits = ggml_mul_mat(context, output, normed);
  ggml_build_forward_expand(graph, logits);
  return logits;
}

std::size_t layer_graph_size(std::size_t spans) { return 64 + 8 * spans; }

}  // namespace baton::model
