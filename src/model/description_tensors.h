// The sets of tensors that descriptions are put together from. Private to description.cpp.
// Names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section "Standardized tensor names".
#pragma once

#include <algorithm>
#include <array>

#include "model/description.h"

namespace baton::model::tensors {

using enum LayerTensor;
using enum Dimension;
using enum TensorKind;
using enum Need;

template <typename T, std::size_t... sizes>
constexpr auto joined(const std::array<T, sizes>&... parts) {
  std::array<T, (sizes + ...)> all{};
  auto out = all.begin();
  ((out = std::copy(parts.begin(), parts.end(), out)), ...);
  return all;
}

// The same tensors, in layers with this mixer only.
template <std::size_t size>
constexpr auto only_with(Mixer mixer, std::array<LayerTensorRule, size> rules) {
  for (LayerTensorRule& rule : rules) rule.only = mixer;
  return rules;
}

constexpr LayerTensorRule vector(LayerTensor role, std::string_view name, Dimension columns, Need need) {
  return {role, kVector, name, columns, kNone, need};
}
constexpr LayerTensorRule matrix(LayerTensor role, std::string_view name, Dimension columns, Dimension rows) {
  return {role, kMatrix, name, columns, rows, kRequired};
}
constexpr LayerTensorRule dense(LayerTensor role, std::string_view name, Dimension columns, Dimension rows) {
  return {role, kMatrix, name, columns, rows, kRequired, LayerKind::kDense};
}
constexpr LayerTensorRule dense_bias(LayerTensor role, std::string_view name, Dimension columns) {
  return {role, kVector, name, columns, kNone, kOptional, LayerKind::kDense};
}
constexpr LayerTensorRule sparse(LayerTensor role, TensorKind kind, std::string_view name, Dimension columns,
                                 Dimension rows, Need need) {
  return {role, kind, name, columns, rows, need, LayerKind::kSparse};
}

inline constexpr std::array kAttention = {
    matrix(kQuery, "attn_q.weight", kEmbedding, kQueryWidth),
    matrix(kKey, "attn_k.weight", kEmbedding, kKeyWidth),
    matrix(kValue, "attn_v.weight", kEmbedding, kValueWidth),
    matrix(kAttentionOutput, "attn_output.weight", kAttentionWidth, kEmbedding),
};
inline constexpr std::array kAttentionInputBiases = {
    vector(kQueryBias, "attn_q.bias", kQueryWidth, kOptional),
    vector(kKeyBias, "attn_k.bias", kKeyWidth, kOptional),
    vector(kValueBias, "attn_v.bias", kValueWidth, kOptional),
};
inline constexpr std::array kAttentionOutputBiases = {
    vector(kAttentionOutputBias, "attn_output.bias", kEmbedding, kOptional),
};
inline constexpr std::array kSinks = {vector(kAttentionSinks, "attn_sinks.weight", kHeads, kRequired)};

inline constexpr std::array kLatentAttention = {
    LayerTensorRule{kQuery, kMatrix, "attn_q.weight", kEmbedding, kWholeQueryWidth, kOptional},
    LayerTensorRule{kQueryDown, kMatrix, "attn_q_a.weight", kEmbedding, kQueryRank, kOptional},
    vector(kQueryDownNorm, "attn_q_a_norm.weight", kQueryRank, kOptional),
    LayerTensorRule{kQueryUp, kMatrix, "attn_q_b.weight", kQueryRank, kWholeQueryWidth, kOptional},
    matrix(kLatentDown, "attn_kv_a_mqa.weight", kEmbedding, kLatentWidth),
    vector(kLatentNorm, "attn_kv_a_norm.weight", kLatentRank, kRequired),
    LayerTensorRule{kKeyUp, kHeadMatrices, "attn_k_b.weight", kPlainKeyWidth, kLatentRank, kRequired},
    LayerTensorRule{kValueUp, kHeadMatrices, "attn_v_b.weight", kLatentRank, kLatentValueWidth, kRequired},
    matrix(kAttentionOutput, "attn_output.weight", kAttentionWidth, kEmbedding),
};
inline constexpr auto kShortConvolution =
    only_with(Mixer::kShortConvolution,
              std::array{
                  matrix(kMixerInput, "shortconv.in_proj.weight", kEmbedding, kThreeEmbeddings),
                  LayerTensorRule{kConvolution, kVectors, "shortconv.conv.weight", kTaps, kEmbedding, kRequired},
                  matrix(kMixerOutput, "shortconv.out_proj.weight", kEmbedding, kEmbedding),
              });
inline constexpr auto kStateSpace = only_with(
    Mixer::kStateSpace,
    std::array{
        matrix(kMixerInput, "ssm_in.weight", kEmbedding, kStateSpaceInput),
        LayerTensorRule{kConvolution, kVectors, "ssm_conv1d.weight", kTaps, kConvolvedChannels, kRequired},
        vector(kConvolutionBias, "ssm_conv1d.bias", kConvolvedChannels, kOptional),
        vector(kStepBias, "ssm_dt.bias", kStateSpaceHeads, kRequired),
        LayerTensorRule{kDecay, kVectors, "ssm_a", Dimension::kNone, kStateSpaceHeads, kRequired},
        LayerTensorRule{kSkip, kVectors, "ssm_d", Dimension::kNone, kStateSpaceHeads, kRequired},
        LayerTensorRule{kStateNorm, kVectors, "ssm_norm.weight", kStateSpaceGroupWidth, kStateSpaceGroups, kOptional},
        matrix(kMixerOutput, "ssm_out.weight", kStateSpaceWidth, kEmbedding),
    });

inline constexpr std::array kHeadNorms = {
    vector(kQueryNorm, "attn_q_norm.weight", kKeyHeadWidth, kRequired),
    vector(kKeyNorm, "attn_k_norm.weight", kKeyHeadWidth, kRequired),
};
inline constexpr std::array kOptionalHeadNorms = {
    vector(kQueryNorm, "attn_q_norm.weight", kKeyHeadWidth, kOptional),
    vector(kKeyNorm, "attn_k_norm.weight", kKeyHeadWidth, kOptional),
};
inline constexpr std::array kWholeNorms = {
    vector(kQueryNorm, "attn_q_norm.weight", kQueryWidth, kRequired),
    vector(kKeyNorm, "attn_k_norm.weight", kKeyWidth, kRequired),
};
inline constexpr std::array kNormPerHead = {
    LayerTensorRule{kQueryNorm, kVectors, "attn_q_norm.weight", kKeyHeadWidth, kHeads, kOptional},
    LayerTensorRule{kKeyNorm, kVectors, "attn_k_norm.weight", kKeyHeadWidth, kKeyValueHeads, kOptional},
};

inline constexpr std::array kAttentionNorms = {vector(kAttentionNorm, "attn_norm.weight", kEmbedding, kRequired)};
inline constexpr std::array kPreNorms =
    joined(kAttentionNorms, std::array{vector(kFeedForwardNorm, "ffn_norm.weight", kEmbedding, kRequired)});
// The second norm by its place in the original: after attention, which is before the feed-forward network.
inline constexpr std::array kPreNormsByPlace =
    joined(kAttentionNorms, std::array{vector(kFeedForwardNorm, "post_attention_norm.weight", kEmbedding, kRequired)});
inline constexpr std::array kPreNormBiases = {
    vector(kAttentionNormBias, "attn_norm.bias", kEmbedding, kOptional),
    vector(kFeedForwardNormBias, "ffn_norm.bias", kEmbedding, kOptional),
};
inline constexpr std::array kPostNorms = {
    vector(kAttentionPostNorm, "post_attention_norm.weight", kEmbedding, kRequired),
    vector(kFeedForwardPostNorm, "post_ffw_norm.weight", kEmbedding, kRequired),
};

inline constexpr std::array kGatedNetwork = {
    dense(kGate, "ffn_gate.weight", kEmbedding, kFeedForward),
    dense(kUp, "ffn_up.weight", kEmbedding, kFeedForward),
    dense(kDown, "ffn_down.weight", kFeedForward, kEmbedding),
};
inline constexpr std::array kGatedNetworkBiases = {
    dense_bias(kGateBias, "ffn_gate.bias", kFeedForward),
    dense_bias(kUpBias, "ffn_up.bias", kFeedForward),
    dense_bias(kDownBias, "ffn_down.bias", kEmbedding),
};

inline constexpr std::array kExpertNetwork = {
    sparse(kRouter, kMatrix, "ffn_gate_inp.weight", kEmbedding, kExperts, kRequired),
    sparse(kExpertGate, kExpertMatrices, "ffn_gate_exps.weight", kEmbedding, kExpertFeedForward, kRequired),
    sparse(kExpertUp, kExpertMatrices, "ffn_up_exps.weight", kEmbedding, kExpertFeedForward, kRequired),
    sparse(kExpertDown, kExpertMatrices, "ffn_down_exps.weight", kExpertFeedForward, kEmbedding, kRequired),
};
inline constexpr std::array kExpertBiases = {
    sparse(kRouterBias, kVector, "ffn_gate_inp.bias", kExperts, kNone, kRequired),
    sparse(kExpertGateBias, kVectors, "ffn_gate_exps.bias", kExpertFeedForward, kExperts, kRequired),
    sparse(kExpertUpBias, kVectors, "ffn_up_exps.bias", kExpertFeedForward, kExperts, kRequired),
    sparse(kExpertDownBias, kVectors, "ffn_down_exps.bias", kEmbedding, kExperts, kRequired),
};
inline constexpr std::array kSelection = {
    sparse(kSelectionBias, kVector, "exp_probs_b.bias", kExperts, kNone, kRequired),
};
inline constexpr std::array kSharedExpert = {
    sparse(kSharedGate, kMatrix, "ffn_gate_shexp.weight", kEmbedding, kSharedFeedForward, kOptional),
    sparse(kSharedUp, kMatrix, "ffn_up_shexp.weight", kEmbedding, kSharedFeedForward, kOptional),
    sparse(kSharedDown, kMatrix, "ffn_down_shexp.weight", kSharedFeedForward, kEmbedding, kOptional),
};

inline constexpr std::array kOptionalSelection = {
    sparse(kSelectionBias, kVector, "exp_probs_b.bias", kExperts, kNone, kOptional),
};
// One row: what the shared expert gives is weighed by a single number.
inline constexpr std::array kSharedExpertRouter = {
    sparse(kSharedRouter, kMatrix, "ffn_gate_inp_shexp.weight", kEmbedding, kNone, kRequired),
};
inline constexpr std::array kUngatedNetwork = {
    dense(kUp, "ffn_up.weight", kEmbedding, kFeedForward),
    dense(kDown, "ffn_down.weight", kFeedForward, kEmbedding),
    dense_bias(kUpBias, "ffn_up.bias", kFeedForward),
    dense_bias(kDownBias, "ffn_down.bias", kEmbedding),
};

constexpr GlobalTensorRule global_vector(GlobalTensor role, std::string_view name, Dimension columns, Need need) {
  return {role, kVector, name, columns, kNone, need};
}
inline constexpr std::array kEmbeddingAndNorm = {
    GlobalTensorRule{GlobalTensor::kTokenEmbedding, kMatrix, "token_embd.weight", kEmbedding, kVocabulary, kRequired},
    global_vector(GlobalTensor::kOutputNorm, "output_norm.weight", kEmbedding, kRequired),
};
// LFM2's files call the norm before the head by another name.
inline constexpr std::array kEmbeddingAndMisnamedNorm = {
    GlobalTensorRule{GlobalTensor::kTokenEmbedding, kMatrix, "token_embd.weight", kEmbedding, kVocabulary, kRequired},
    global_vector(GlobalTensor::kOutputNorm, "token_embd_norm.weight", kEmbedding, kRequired),
};
inline constexpr std::array kOwnOutput = {
    GlobalTensorRule{GlobalTensor::kOutput, kMatrix, "output.weight", kEmbedding, kVocabulary, kOptional},
};
inline constexpr std::array kOutputBiases = {
    global_vector(GlobalTensor::kOutputBias, "output.bias", kVocabulary, kOptional),
};
inline constexpr std::array kOutputNormBiases = {
    global_vector(GlobalTensor::kOutputNormBias, "output_norm.bias", kEmbedding, kRequired),
};
inline constexpr std::array kRopeFactorTables = {
    global_vector(GlobalTensor::kRopeFactors, "rope_freqs.weight", kHalfRopeWidth, kOptional),
};
// LongRoPE has a second table for prompts within the original context. All nodes must rotate alike, and a request may
// grow, so the choice hangs on neither: the long table serves throughout.
inline constexpr std::array kLongRopeTables = {
    global_vector(GlobalTensor::kRopeFactors, "rope_factors_long.weight", kHalfRopeWidth, kOptional),
};

inline constexpr std::array kInputMatrices = {kQuery, kKey, kValue};
inline constexpr std::array kInputBiases = {kQueryBias, kKeyBias, kValueBias};
inline constexpr std::array kGateAndUp = {kGate, kUp};
inline constexpr std::array kFusedInputs = {
    FusedTensor{"attn_qkv.weight", kInputMatrices},
    FusedTensor{"attn_qkv.bias", kInputBiases},
};
inline constexpr std::array kFusedInputsAndGate =
    joined(kFusedInputs, std::array{FusedTensor{"ffn_up.weight", kGateAndUp}});

}  // namespace baton::model::tensors
