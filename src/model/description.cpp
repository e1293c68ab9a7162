#include "model/description.h"

#include <algorithm>
#include <array>
#include <format>

namespace baton::model {

namespace {

using enum LayerTensor;
using enum Dimension;
using enum Need;

template <typename T, std::size_t... sizes>
constexpr auto joined(const std::array<T, sizes>&... parts) {
  std::array<T, (sizes + ...)> all{};
  auto out = all.begin();
  ((out = std::copy(parts.begin(), parts.end(), out)), ...);
  return all;
}

// Attention and a gated feed-forward network, as nearly every dense model since Llama has them.
constexpr std::array kGatedBlock = {
    LayerTensorRule{kAttentionNorm, "attn_norm.weight", kEmbedding, kNone, kRequired},
    LayerTensorRule{kQuery, "attn_q.weight", kEmbedding, kQueryWidth, kRequired},
    LayerTensorRule{kKey, "attn_k.weight", kEmbedding, kKeyWidth, kRequired},
    LayerTensorRule{kValue, "attn_v.weight", kEmbedding, kValueWidth, kRequired},
    LayerTensorRule{kAttentionOutput, "attn_output.weight", kAttentionWidth, kEmbedding, kRequired},
    LayerTensorRule{kFeedForwardNorm, "ffn_norm.weight", kEmbedding, kNone, kRequired},
    LayerTensorRule{kGate, "ffn_gate.weight", kEmbedding, kFeedForward, kRequired},
    LayerTensorRule{kUp, "ffn_up.weight", kEmbedding, kFeedForward, kRequired},
    LayerTensorRule{kDown, "ffn_down.weight", kFeedForward, kEmbedding, kRequired},
};
constexpr std::array kAttentionInputBiases = {
    LayerTensorRule{kQueryBias, "attn_q.bias", kQueryWidth, kNone, kOptional},
    LayerTensorRule{kKeyBias, "attn_k.bias", kKeyWidth, kNone, kOptional},
    LayerTensorRule{kValueBias, "attn_v.bias", kValueWidth, kNone, kOptional},
};
constexpr std::array kOutputBiases = {
    LayerTensorRule{kAttentionOutputBias, "attn_output.bias", kEmbedding, kNone, kOptional},
    LayerTensorRule{kGateBias, "ffn_gate.bias", kFeedForward, kNone, kOptional},
    LayerTensorRule{kUpBias, "ffn_up.bias", kFeedForward, kNone, kOptional},
    LayerTensorRule{kDownBias, "ffn_down.bias", kEmbedding, kNone, kOptional},
};
constexpr std::array kHeadNorms = {
    LayerTensorRule{kQueryNorm, "attn_q_norm.weight", kKeyHeadWidth, kNone, kRequired},
    LayerTensorRule{kKeyNorm, "attn_k_norm.weight", kKeyHeadWidth, kNone, kRequired},
};
constexpr std::array kPostNorms = {
    LayerTensorRule{kAttentionPostNorm, "post_attention_norm.weight", kEmbedding, kNone, kRequired},
    LayerTensorRule{kFeedForwardPostNorm, "post_ffw_norm.weight", kEmbedding, kNone, kRequired},
};

constexpr auto kLlamaLayer = joined(kGatedBlock, kAttentionInputBiases, kOutputBiases);
constexpr auto kQwen3Layer = joined(kGatedBlock, kAttentionInputBiases, kHeadNorms);
constexpr auto kGemma3Layer = joined(kGatedBlock, kAttentionInputBiases, kHeadNorms, kPostNorms);

constexpr std::array kPlainGlobals = {
    GlobalTensorRule{GlobalTensor::kTokenEmbedding, "token_embd.weight", kEmbedding, kVocabulary, kRequired},
    GlobalTensorRule{GlobalTensor::kOutputNorm, "output_norm.weight", kEmbedding, kNone, kRequired},
    GlobalTensorRule{GlobalTensor::kOutput, "output.weight", kEmbedding, kVocabulary, kOptional},
};
constexpr std::array kRopeFactorGlobals = {
    GlobalTensorRule{GlobalTensor::kRopeFactors, "rope_freqs.weight", kHalfRopeWidth, kNone, kOptional},
};
constexpr auto kLlamaGlobals = joined(kPlainGlobals, kRopeFactorGlobals);

constexpr std::array kDenseOnly = {NeutralKey{"expert_count", 0}};
constexpr auto kMistral3Neutral = joined(kDenseOnly, std::array{NeutralKey{"attention.temperature_scale", 0}});
constexpr auto kGemma3Neutral = joined(kDenseOnly, std::array{NeutralKey{"final_logit_softcapping", 0}});

constexpr std::array kDescriptions = {
    Description{
        .architecture = "llama",
        .rope = RopeKind::kNeighbours,
        .activation = Activation::kSilu,
        .attention = AttentionPattern::kFull,
        .embedding_scale = EmbeddingScale::kNone,
        .default_sliding_period = 0,
        .default_sliding_rope_base = 0,
        .layers_scaled_by_embedding = 0,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kLlamaGlobals,
        .neutral_keys = kDenseOnly,
    },
    Description{
        .architecture = "mistral3",
        .rope = RopeKind::kNeighbours,
        .activation = Activation::kSilu,
        .attention = AttentionPattern::kFull,
        .embedding_scale = EmbeddingScale::kNone,
        .default_sliding_period = 0,
        .default_sliding_rope_base = 0,
        .layers_scaled_by_embedding = 0,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kLlamaGlobals,
        .neutral_keys = kMistral3Neutral,
    },
    Description{
        .architecture = "qwen3",
        .rope = RopeKind::kHalves,
        .activation = Activation::kSilu,
        .attention = AttentionPattern::kFull,
        .embedding_scale = EmbeddingScale::kNone,
        .default_sliding_period = 0,
        .default_sliding_rope_base = 0,
        .layers_scaled_by_embedding = 0,
        .layer_tensors = kQwen3Layer,
        .global_tensors = kPlainGlobals,
        .neutral_keys = kDenseOnly,
    },
    Description{
        .architecture = "gemma3",
        .rope = RopeKind::kHalves,
        .activation = Activation::kGelu,
        .attention = AttentionPattern::kSlidingByFile,
        .embedding_scale = EmbeddingScale::kRootOfWidth,
        .default_sliding_period = 6,
        .default_sliding_rope_base = 10000,
        .layers_scaled_by_embedding = 62,  // the 27B model
        .layer_tensors = kGemma3Layer,
        .global_tensors = kPlainGlobals,
        .neutral_keys = kGemma3Neutral,
    },
};

}  // namespace

std::span<const Description> all_descriptions() { return kDescriptions; }

Result<const Description*> find_description(std::string_view architecture) {
  std::string known;
  for (const Description& description : kDescriptions) {
    if (description.architecture == architecture) return &description;
    known += std::format("{}{}", known.empty() ? "" : ", ", description.architecture);
  }
  return fail(ErrorCode::kUnsupported,
              std::format("the architecture '{}' is not supported; supported are {}", architecture, known));
}

std::string layer_tensor_name(std::uint32_t layer, std::string_view name) {
  return std::format("blk.{}.{}", layer, name);
}

}  // namespace baton::model
