#include "model/graph.h"

#include <ggml.h>

#include <limits>

#include "model/layer_scope.h"

namespace baton::model {

namespace {

// gpt-oss's activation: https://github.com/openai/gpt-oss, swiglu in its reference model.
constexpr float kClampedSiluSharpness = 1.702F;
constexpr float kClampedSiluLimit = 7.0F;
// Keeps a sum of weights that vanishes from dividing by zero: the smallest normal F16.
constexpr float kLeastWeightSum = 6.103515625e-5F;

// The matmuls of the whole room, so that there is one place each to replace.
ggml_tensor* multiply(ggml_context* context, ggml_tensor* matrix, ggml_tensor* x) {
  return ggml_mul_mat(context, matrix, x);
}
// matrices [columns, rows, experts], x [columns, 1 or chosen, tokens], chosen I32 [chosen, tokens]
ggml_tensor* multiply_chosen(ggml_context* context, ggml_tensor* matrices, ggml_tensor* x, ggml_tensor* chosen) {
  return ggml_mul_mat_id(context, matrices, x, chosen);
}

ggml_tensor* add_bias(ggml_context* context, ggml_tensor* x, ggml_tensor* bias) {
  return bias == nullptr ? x : ggml_add(context, x, bias);
}

ggml_tensor* scaled(ggml_context* context, ggml_tensor* x, float factor) {
  return factor == 1.0F ? x : ggml_scale(context, x, factor);
}

ggml_tensor* normed_by(ggml_context* context, ggml_tensor* x, NormKind kind, float epsilon, ggml_tensor* weight,
                       ggml_tensor* bias) {
  ggml_tensor* unit = kind == NormKind::kLayer ? ggml_norm(context, x, epsilon) : ggml_rms_norm(context, x, epsilon);
  return add_bias(context, ggml_mul(context, unit, weight), bias);
}

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
    ggml_tensor* normed = norm(inputs_.hidden, LayerTensor::kAttentionNorm, LayerTensor::kAttentionNormBias);
    const bool wants_rows = kept.kind != KeptRows::Kind::kNone;
    ggml_tensor* attended = mix(normed, wants_rows);
    if (!wants_rows) return;

    ggml_tensor* stream = inputs_.hidden;
    if (kept.kind == KeptRows::Kind::kSome) {
      attended = ggml_get_rows(context_, attended, kept.rows);
      stream = ggml_get_rows(context_, stream, kept.rows);
      if (description_.block == BlockKind::kParallel) normed = ggml_get_rows(context_, normed, kept.rows);
    }
    attended = attends() ? project(attended, LayerTensor::kAttentionOutput, LayerTensor::kAttentionOutputBias)
                         : project(attended, LayerTensor::kMixerOutput);
    stream = join(stream, norm(attended, LayerTensor::kAttentionPostNorm));
    if (description_.block == BlockKind::kSequential) {
      normed = norm(stream, LayerTensor::kFeedForwardNorm, LayerTensor::kFeedForwardNormBias);
    }
    stream = join(stream, norm(feed_forward(normed), LayerTensor::kFeedForwardPostNorm));
    if (kept.kind == KeptRows::Kind::kSome) stream = ggml_cpy(context_, stream, kept.destination);
    ggml_build_forward_expand(graph_, stream);
  }

 private:
  ggml_tensor* weight(LayerTensor role) const { return weights_.get(role); }
  bool attends() const { return layer_.mixer == Mixer::kAttention || layer_.mixer == Mixer::kLatentAttention; }

  // What earlier tokens add to each row, before the output projection; and what later ones will need is stored.
  ggml_tensor* mix(ggml_tensor* normed, bool wants_rows) {
    const LayerScope scope = this->scope();
    switch (layer_.mixer) {
      case Mixer::kAttention: {
        ggml_tensor* query = wants_rows ? make_query(normed) : nullptr;
        store_key_and_value(normed);
        return wants_rows ? attend(query) : nullptr;
      }
      case Mixer::kLatentAttention: {
        ggml_tensor* query = wants_rows ? make_latent_query(normed) : nullptr;
        store_latent(normed);
        return wants_rows ? values_of_heads(attend(query)) : nullptr;
      }
      case Mixer::kShortConvolution: return build_short_convolution(scope, normed);
      case Mixer::kStateSpace: return build_state_space(scope, normed);
    }
    return nullptr;
  }

  LayerScope scope() const { return {context_, graph_, hyperparameters_, weights_, inputs_}; }

  // A norm that the layer has not leaves its input as it is.
  ggml_tensor* norm(ggml_tensor* x, LayerTensor role, LayerTensor bias = LayerTensor::kCount) {
    if (weight(role) == nullptr) return x;
    ggml_tensor* shift = bias == LayerTensor::kCount ? nullptr : weight(bias);
    return normed_by(context_, x, description_.norm, hyperparameters_.norm_epsilon, weight(role), shift);
  }
  ggml_tensor* project(ggml_tensor* x, LayerTensor matrix, LayerTensor bias) {
    return add_bias(context_, project(x, matrix), weight(bias));
  }
  ggml_tensor* project(ggml_tensor* x, LayerTensor matrix) { return scope().project(x, matrix); }

  ggml_tensor* join(ggml_tensor* stream, ggml_tensor* added) {
    return ggml_add_inplace(context_, stream, scaled(context_, added, hyperparameters_.residual_scale));
  }

  ggml_tensor* rotate(ggml_tensor* x) {
    const RopeParameters& rope = layer_.rope;
    if (!rope.rotates) return x;
    const int mode = description_.rope == RopeKind::kHalves ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    return ggml_rope_ext(context_, x, inputs_.positions, inputs_.rope_factors,
                         static_cast<int>(hyperparameters_.rope_width), mode,
                         static_cast<int>(hyperparameters_.rope_original_context_tokens), rope.base, rope.scale,
                         rope.extrapolation, rope.magnitude, rope.fast_turns, rope.slow_turns);
  }

  // Splits a projection into heads, norms and rotates it.
  ggml_tensor* heads(ggml_tensor* x, std::uint32_t count, LayerTensor head_norm) {
    if (description_.head_norm == HeadNorm::kAllHeadsTogether) x = norm(x, head_norm);
    x = ggml_reshape_3d(context_, x, shape_.key_head_width, count, rows_);
    if (description_.head_norm == HeadNorm::kEachHead) x = norm(x, head_norm);
    x = rotate(x);
    return description_.head_norm == HeadNorm::kEachHeadAfterRope ? norm(x, head_norm) : x;
  }

  ggml_tensor* make_query(ggml_tensor* normed) {
    ggml_tensor* query = project(normed, LayerTensor::kQuery, LayerTensor::kQueryBias);
    query = heads(query, shape_.head_count, LayerTensor::kQueryNorm);
    if (inputs_.temperatures != nullptr) query = ggml_mul(context_, query, inputs_.temperatures);
    // Before K and V in the graph, so that the three matmuls of one input follow each other.
    ggml_build_forward_expand(graph_, query);
    return query;
  }

  void store_key_and_value(ggml_tensor* normed) {
    ggml_tensor* key = project(normed, LayerTensor::kKey, LayerTensor::kKeyBias);
    ggml_tensor* value = project(normed, LayerTensor::kValue, LayerTensor::kValueBias);
    ggml_build_forward_expand(graph_, value);
    key = heads(key, shape_.kv_head_count, LayerTensor::kKeyNorm);
    key = ggml_reshape_2d(context_, key, shape_.k_width(), rows_);
    ggml_build_forward_expand(graph_, ggml_set_rows(context_, inputs_.k_cache, key, inputs_.cells));
    ggml_build_forward_expand(graph_, ggml_set_rows(context_, inputs_.v_cache, value, inputs_.cells));
  }

  // Latent attention in its absorbed form: queries are taken to where keys are latent, so that all heads read the same
  // rows, and values are made from what they gathered. [latent and rotated width, heads, rows]
  ggml_tensor* make_latent_query(ggml_tensor* normed) {
    const std::int64_t width = hyperparameters_.latent.key_head_width;
    const std::int64_t rotated_width = hyperparameters_.rope_width;
    const std::int64_t plain_width = width - rotated_width;
    ggml_tensor* query = normed;
    if (hyperparameters_.latent.query_rank != 0) {
      query = norm(project(normed, LayerTensor::kQueryDown), LayerTensor::kQueryDownNorm);
      query = project(query, LayerTensor::kQueryUp);
    } else {
      query = project(normed, LayerTensor::kQuery);
    }
    query = ggml_reshape_3d(context_, query, width, shape_.head_count, rows_);
    ggml_tensor* plain =
        ggml_view_3d(context_, query, plain_width, shape_.head_count, rows_, query->nb[1], query->nb[2], 0);
    ggml_tensor* rotated = ggml_view_3d(context_, query, rotated_width, shape_.head_count, rows_, query->nb[1],
                                        query->nb[2], static_cast<std::size_t>(plain_width) * sizeof(float));
    plain = multiply(context_, weight(LayerTensor::kKeyUp), ggml_permute(context_, plain, 0, 2, 1, 3));
    query = ggml_concat(context_, ggml_permute(context_, plain, 0, 2, 1, 3), rotate(rotated), 0);
    ggml_build_forward_expand(graph_, query);
    return query;
  }

  void store_latent(ggml_tensor* normed) {
    const std::int64_t rank = hyperparameters_.latent.rank;
    const std::int64_t rotated_width = hyperparameters_.rope_width;
    ggml_tensor* both = project(normed, LayerTensor::kLatentDown);
    ggml_tensor* latent = ggml_view_2d(context_, both, rank, rows_, both->nb[1], 0);
    ggml_tensor* rotated = ggml_view_3d(context_, both, rotated_width, 1, rows_, both->nb[1], both->nb[1],
                                        static_cast<std::size_t>(rank) * sizeof(float));
    rotated = ggml_reshape_2d(context_, rotate(rotated), rotated_width, rows_);
    ggml_tensor* row = ggml_concat(context_, norm(latent, LayerTensor::kLatentNorm), rotated, 0);
    ggml_build_forward_expand(graph_, ggml_set_rows(context_, inputs_.k_cache, row, inputs_.cells));
  }

  // `gathered` [latent x heads, rows] -> [value width x heads, rows]
  ggml_tensor* values_of_heads(ggml_tensor* gathered) {
    gathered = ggml_reshape_3d(context_, gathered, hyperparameters_.latent.rank, shape_.head_count, rows_);
    ggml_tensor* values =
        multiply(context_, weight(LayerTensor::kValueUp), ggml_permute(context_, gathered, 0, 2, 1, 3));
    values = ggml_cont(context_, ggml_permute(context_, values, 0, 2, 1, 3));
    return ggml_reshape_2d(context_, values, values->ne[0] * values->ne[1], rows_);
  }

  // [head width, count, kv heads] of consecutive cells.
  ggml_tensor* cached(ggml_tensor* cache, std::uint32_t head_width, const AttentionSpan& span) {
    return ggml_view_3d(context_, cache, head_width, span.kv_count, shape_.kv_head_count, cache->nb[1],
                        ggml_row_size(cache->type, head_width), span.first_cell * cache->nb[1]);
  }

  // `query` [head width, heads, the span's rows].
  ggml_tensor* attend_span(ggml_tensor* query, const AttentionSpan& span) {
    ggml_tensor* keys = cached(inputs_.k_cache, shape_.key_head_width, span);
    const bool latent = layer_.mixer == Mixer::kLatentAttention;
    ggml_tensor* values = cached(latent ? inputs_.k_cache : inputs_.v_cache, shape_.value_head_width, span);
    ggml_tensor* sinks = weight(LayerTensor::kAttentionSinks);
    const float scale = hyperparameters_.attention_scale;
    const float cap = hyperparameters_.attention_cap;
    // The kernels want rows without gaps, which values within latent rows are not.
    if (inputs_.kernels != nullptr && sinks == nullptr && cap == 0 && !latent) {
      ggml_tensor* out = inputs_.kernels->attend(context_, query, keys, values, span, scale);
      if (out != nullptr) return out;
    }
    query = ggml_permute(context_, query, 0, 2, 1, 3);
    ggml_tensor* out = ggml_flash_attn_ext(context_, query, keys, values, span.mask, scale, 0.0F, cap);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    if (sinks != nullptr) ggml_flash_attn_ext_add_sinks(out, sinks);
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

  ggml_tensor* activate(ggml_tensor* gate, ggml_tensor* up) {
    switch (description_.activation) {
      case Activation::kSilu: return ggml_swiglu_split(context_, gate, up);
      case Activation::kGelu: return ggml_geglu_split(context_, gate, up);
      case Activation::kClampedSilu:
        return ggml_swiglu_oai(context_, gate, up, kClampedSiluSharpness, kClampedSiluLimit);
      case Activation::kPlainGelu: return ggml_gelu(context_, up);
    }
    return up;
  }

  ggml_tensor* feed_forward(ggml_tensor* x) {
    if (weight(LayerTensor::kRouter) != nullptr) return experts(x);
    ggml_tensor* up = project(x, LayerTensor::kUp, LayerTensor::kUpBias);
    ggml_build_forward_expand(graph_, up);
    const bool gated = weight(LayerTensor::kGate) != nullptr;
    ggml_tensor* gate = gated ? project(x, LayerTensor::kGate, LayerTensor::kGateBias) : nullptr;
    return project(activate(gate, up), LayerTensor::kDown, LayerTensor::kDownBias);
  }

  ggml_tensor* experts(ggml_tensor* x) {
    ggml_tensor* scores = project(x, LayerTensor::kRouter, LayerTensor::kRouterBias);
    ggml_tensor* weights = scores;
    if (hyperparameters_.gating == Gating::kSoftmax) weights = ggml_soft_max(context_, scores);
    if (hyperparameters_.gating == Gating::kSigmoid) weights = ggml_sigmoid(context_, scores);
    ggml_tensor* preferred = add_bias(context_, weights, weight(LayerTensor::kSelectionBias));
    if (hyperparameters_.expert_groups > 1) preferred = in_best_groups(preferred);
    const auto used = static_cast<int>(shape_.experts_per_token);
    ggml_tensor* chosen = ggml_argsort_top_k(context_, preferred, used);
    weights = weights_of(weights, chosen);
    ggml_build_forward_expand(graph_, weights);

    ggml_tensor* input = ggml_reshape_3d(context_, x, x->ne[0], 1, x->ne[1]);
    ggml_tensor* up = expert_project(input, LayerTensor::kExpertUp, LayerTensor::kExpertUpBias, chosen);
    ggml_tensor* gate = expert_project(input, LayerTensor::kExpertGate, LayerTensor::kExpertGateBias, chosen);
    ggml_tensor* result =
        expert_project(activate(gate, up), LayerTensor::kExpertDown, LayerTensor::kExpertDownBias, chosen);
    result = sum_of_chosen(ggml_mul(context_, result, weights));
    return weight(LayerTensor::kSharedUp) == nullptr ? result : ggml_add(context_, result, shared_expert(x));
  }

  // The same scores [experts, tokens], but -infinity outside of each token's best groups.
  ggml_tensor* in_best_groups(ggml_tensor* scores) {
    const std::int64_t groups = hyperparameters_.expert_groups;
    const std::int64_t in_group = scores->ne[0] / groups;
    const std::int64_t tokens = scores->ne[1];
    const int counted = static_cast<int>(experts_in_group_score(hyperparameters_.gating));
    ggml_tensor* grouped = ggml_reshape_3d(context_, scores, in_group, groups, tokens);
    ggml_tensor* single = ggml_reshape_4d(context_, scores, 1, in_group, groups, tokens);
    ggml_tensor* best = ggml_get_rows(context_, single, ggml_argsort_top_k(context_, grouped, counted));
    ggml_tensor* sums = ggml_sum_rows(context_, ggml_reshape_3d(context_, best, counted, groups, tokens));
    ggml_tensor* used = ggml_argsort_top_k(context_, ggml_reshape_2d(context_, sums, groups, tokens),
                                           static_cast<int>(hyperparameters_.expert_groups_used));
    ggml_tensor* nowhere = ggml_fill(context_, grouped, -std::numeric_limits<float>::infinity());
    ggml_tensor* masked = ggml_set_rows(context_, nowhere, ggml_get_rows(context_, grouped, used), used);
    return ggml_reshape_2d(context_, masked, scores->ne[0], tokens);
  }

  // [1, chosen, tokens]
  ggml_tensor* weights_of(ggml_tensor* all, ggml_tensor* chosen) {
    const std::int64_t tokens = all->ne[1];
    const std::int64_t used = chosen->ne[0];
    ggml_tensor* weights = ggml_get_rows(context_, ggml_reshape_3d(context_, all, 1, all->ne[0], tokens), chosen);
    weights = ggml_reshape_2d(context_, weights, used, tokens);
    if (hyperparameters_.gating == Gating::kSoftmaxOfChosen) weights = ggml_soft_max(context_, weights);
    if (hyperparameters_.expert_weights_sum_to_one) {
      ggml_tensor* sum = ggml_clamp(context_, ggml_sum_rows(context_, weights), kLeastWeightSum,
                                    std::numeric_limits<float>::infinity());
      weights = ggml_div(context_, weights, sum);
    }
    weights = scaled(context_, weights, hyperparameters_.expert_weight_scale);
    return ggml_reshape_3d(context_, weights, 1, used, tokens);
  }

  ggml_tensor* expert_project(ggml_tensor* x, LayerTensor matrices, LayerTensor biases, ggml_tensor* chosen) {
    ggml_tensor* y =
        inputs_.kernels == nullptr ? nullptr : inputs_.kernels->multiply_chosen(context_, matrices, x, chosen);
    if (y == nullptr) y = multiply_chosen(context_, weight(matrices), x, chosen);
    return weight(biases) == nullptr ? y : ggml_add_id(context_, y, weight(biases), chosen);
  }

  // x [embedding, chosen, tokens] -> [embedding, tokens]
  ggml_tensor* sum_of_chosen(ggml_tensor* x) {
    ggml_tensor* sum = nullptr;
    for (std::int64_t index = 0; index < x->ne[1]; ++index) {
      ggml_tensor* part =
          ggml_view_2d(context_, x, x->ne[0], x->ne[2], x->nb[2], static_cast<std::size_t>(index) * x->nb[1]);
      sum = sum == nullptr ? part : ggml_add(context_, sum, part);
    }
    return sum;
  }

  ggml_tensor* shared_expert(ggml_tensor* x) {
    ggml_tensor* up = project(x, LayerTensor::kSharedUp);
    ggml_tensor* gate = project(x, LayerTensor::kSharedGate);
    ggml_tensor* result = project(activate(gate, up), LayerTensor::kSharedDown);
    if (weight(LayerTensor::kSharedRouter) == nullptr) return result;
    return ggml_mul(context_, result, ggml_sigmoid(context_, project(x, LayerTensor::kSharedRouter)));
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

ggml_tensor* LayerScope::project(ggml_tensor* x, LayerTensor matrix) const {
  ggml_tensor* y = inputs.kernels == nullptr ? nullptr : inputs.kernels->multiply(context, matrix, x);
  return y != nullptr ? y : multiply(context, weight(matrix), x);
}

void build_layer(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                 const Description& description, std::uint32_t layer, const LayerWeights& weights,
                 const LayerInputs& inputs, const KeptRows& kept) {
  LayerBuilder(context, graph, hyperparameters, description, layer, weights, inputs).build(kept);
}

void build_embedding(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                     ggml_tensor* table, ggml_tensor* tokens, ggml_tensor* hidden) {
  ggml_tensor* rows = scaled(context, ggml_get_rows(context, table, tokens), hyperparameters.embedding_scale);
  ggml_build_forward_expand(graph, ggml_cpy(context, rows, hidden));
}

ggml_tensor* build_output_norm(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                               const Description& description, const HeadWeights& weights, ggml_tensor* rows) {
  ggml_tensor* normed =
      normed_by(context, rows, description.norm, hyperparameters.norm_epsilon, weights.norm, weights.norm_bias);
  ggml_build_forward_expand(graph, normed);
  return normed;
}

ggml_tensor* build_head(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                        const Description& description, const HeadWeights& weights, ggml_tensor* rows,
                        Kernels* kernels) {
  ggml_tensor* normed =
      normed_by(context, rows, description.norm, hyperparameters.norm_epsilon, weights.norm, weights.norm_bias);
  ggml_tensor* logits = kernels == nullptr ? nullptr : kernels->multiply_head(context, normed);
  if (logits == nullptr) logits = multiply(context, weights.output, normed);
  logits = add_bias(context, logits, weights.output_bias);
  logits = scaled(context, logits, hyperparameters.logit_scale);
  if (hyperparameters.logit_cap != 0) {
    logits = ggml_tanh(context, ggml_scale(context, logits, 1.0F / hyperparameters.logit_cap));
    logits = ggml_scale(context, logits, hyperparameters.logit_cap);
  }
  ggml_build_forward_expand(graph, logits);
  return logits;
}

std::size_t layer_graph_size(const ModelShape& shape, std::size_t spans) {
  // A span of a layer with a state takes most.
  return 128 + 32 * spans + 2 * std::size_t{shape.experts_per_token};
}

}  // namespace baton::model
