#include "model/description.h"

#include <algorithm>
#include <format>

#include "model/description_tensors.h"

namespace baton::model {

namespace {

using namespace tensors;

constexpr auto kPlainGlobals = joined(kEmbeddingAndNorm, kOwnOutput);
constexpr auto kRopeFactorGlobals = joined(kPlainGlobals, kRopeFactorTables);
constexpr auto kAllRopeGlobals = joined(kRopeFactorGlobals, kLongRopeTables);
constexpr auto kLongRopeGlobals = joined(kPlainGlobals, kLongRopeTables);
constexpr auto kBiasedNormGlobals = joined(kPlainGlobals, kOutputNormBiases);
constexpr auto kBiasedGlobals = joined(kPlainGlobals, kOutputBiases);

constexpr auto kPlainLayer = joined(kPreNorms, kAttention, kAttentionInputBiases, kGatedNetwork);
constexpr auto kLlamaLayer =
    joined(kPlainLayer, kAttentionOutputBiases, kGatedNetworkBiases, kExpertNetwork, kSharedExpert);
constexpr auto kQwen3Layer = joined(kPlainLayer, kHeadNorms);
constexpr auto kQwen3MoeLayer = joined(kPreNorms, kAttention, kAttentionInputBiases, kHeadNorms, kExpertNetwork);
constexpr auto kGemma2Layer = joined(kPlainLayer, kPostNorms);
constexpr auto kGemma3Layer = joined(kPlainLayer, kHeadNorms, kPostNorms);
constexpr auto kPhi3Layer = joined(kPlainLayer, kAttentionOutputBiases);
constexpr auto kGptOssLayer = joined(kPreNormsByPlace, kAttention, kAttentionInputBiases, kAttentionOutputBiases,
                                     kSinks, kExpertNetwork, kExpertBiases);
constexpr auto kGlm4MoeLayer = joined(kPreNormsByPlace, kAttention, kAttentionInputBiases, kOptionalHeadNorms,
                                      kGatedNetwork, kExpertNetwork, kSelection, kSharedExpert);
// Norms only behind what they norm.
constexpr auto kOlmo2Layer = joined(kAttention, kAttentionInputBiases, kWholeNorms, kGatedNetwork, kPostNorms);
constexpr auto kExaone4Layer = joined(kAttention, kAttentionInputBiases, kHeadNorms, kGatedNetwork, kPostNorms);
constexpr auto kCommandLayer =
    joined(kAttentionNorms, kAttention, kAttentionInputBiases, kAttentionOutputBiases, kNormPerHead, kGatedNetwork);

constexpr auto kQwen2MoeLayer =
    joined(kPreNorms, kAttention, kAttentionInputBiases, kExpertNetwork, kSharedExpert, kSharedExpertRouter);
constexpr auto kOlmoeLayer = joined(kPreNorms, kAttention, kWholeNorms, kExpertNetwork);
constexpr auto kMinimaxLayer = joined(kOlmoeLayer, kSelection);
constexpr auto kHunyuanMoeLayer =
    joined(kPreNorms, kAttention, kAttentionInputBiases, kHeadNorms, kExpertNetwork, kSharedExpert);
constexpr auto kSeedLayer =
    joined(kPreNormsByPlace, kAttention, kAttentionInputBiases, kAttentionOutputBiases, kGatedNetwork);
constexpr auto kErnieLayer = joined(kPlainLayer, kAttentionOutputBiases);
constexpr auto kErnieMoeLayer = joined(kErnieLayer, kExpertNetwork, kOptionalSelection, kSharedExpert);
constexpr auto kStarcoder2Layer =
    joined(kPreNorms, kPreNormBiases, kAttention, kAttentionInputBiases, kAttentionOutputBiases, kUngatedNetwork);

constexpr auto kDeepseek2Layer =
    joined(kPreNorms, kLatentAttention, kGatedNetwork, kExpertNetwork, kOptionalSelection, kSharedExpert);
constexpr auto kAttentionAmongOthers = only_with(Mixer::kAttention, kAttention);
constexpr auto kHeadNormsAmongOthers = only_with(Mixer::kAttention, kHeadNorms);
constexpr auto kLfm2Layer =
    joined(kPreNorms, kAttentionAmongOthers, kHeadNormsAmongOthers, kShortConvolution, kGatedNetwork);
constexpr auto kLfm2MoeLayer = joined(kLfm2Layer, kExpertNetwork, kSelection);
constexpr auto kGraniteHybridLayer =
    joined(kPreNorms, kAttentionAmongOthers, only_with(Mixer::kAttention, kAttentionInputBiases),
           only_with(Mixer::kAttention, kAttentionOutputBiases), kStateSpace, kGatedNetwork, kGatedNetworkBiases,
           kExpertNetwork, kSharedExpert);
constexpr auto kMisnamedNormGlobals = joined(kEmbeddingAndMisnamedNorm, kOwnOutput);

constexpr std::array kNoExperts = {NeutralKey{"expert_count", 0}};
constexpr std::array kNoExpertGroups = {NeutralKey{"expert_group_count", 1}};
constexpr std::array kNoTemperature = {NeutralKey{"attention.temperature_scale", 0}};
constexpr std::array kNoWindows = {NeutralKey{"attention.sliding_window", 0}};
constexpr auto kNoWindowsOrExperts = joined(kNoWindows, kNoExperts);
constexpr auto kOnlyRoutedExperts = joined(kNoExpertGroups, std::array{NeutralKey{"expert_shared_count", 0}});

constexpr std::array kAttentionScaleKey = {ScaleKey{Scale::kAttention, "attention.scale", 0}};
constexpr std::array kMistral3Scales = {ScaleKey{Scale::kTemperatureSlope, "attention.temperature_scale", 0}};
constexpr std::array kGemma2Scales = {ScaleKey{Scale::kAttentionCap, "attn_logit_softcapping", 50},
                                      ScaleKey{Scale::kLogitCap, "final_logit_softcapping", 30}};
constexpr std::array kGemma3Scales = {ScaleKey{Scale::kLogitCap, "final_logit_softcapping", 0}};
constexpr auto kGraniteScales =
    joined(kAttentionScaleKey, std::array{ScaleKey{Scale::kEmbedding, "embedding_scale", 0},
                                          ScaleKey{Scale::kResidual, "residual_scale", 0},
                                          ScaleKey{Scale::kLogitsDivisor, "logit_scale", 0}});
constexpr std::array kCommandScales = {ScaleKey{Scale::kLogits, "logit_scale", 0}};

using Windows = SlidingWindows;

constexpr std::array kDescriptions = {
    Description{
        .architecture = "llama",
        .rope = RopeKind::kNeighbours,
        .scales = kAttentionScaleKey,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kAllRopeGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "mistral3",
        .rope = RopeKind::kNeighbours,
        .scales = kMistral3Scales,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kRopeFactorGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "qwen2",
        .layer_tensors = kPlainLayer,
        .global_tensors = kBiasedGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "qwen3",
        .layer_tensors = kQwen3Layer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "qwen3moe",
        .layer_tensors = kQwen3MoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kOnlyRoutedExperts,
    },
    Description{
        .architecture = "gemma2",
        .activation = Activation::kGelu,
        .windows = {.presence = Windows::Presence::kByFile, .default_period = 2, .default_window = 4096},
        .embedding_scale = EmbeddingScale::kRootOfWidth,
        .layers_scaled_by_embedding = 46,  // the 27B model
        .scales = kGemma2Scales,
        .layer_tensors = kGemma2Layer,
        .global_tensors = kEmbeddingAndNorm,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "gemma3",
        .activation = Activation::kGelu,
        .windows = {.presence = Windows::Presence::kByFile,
                    .default_period = 6,
                    .rope = Windows::Rope::kUnstretched,
                    .default_rope_base = 10000},
        .embedding_scale = EmbeddingScale::kRootOfWidth,
        .layers_scaled_by_embedding = 62,  // the 27B model
        .scales = kGemma3Scales,
        .layer_tensors = kGemma3Layer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "phi3",
        .layer_tensors = kPhi3Layer,
        .global_tensors = kLongRopeGlobals,
        .fused_tensors = kFusedInputsAndGate,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "gpt-oss",
        .activation = Activation::kClampedSilu,
        .windows = {.presence = Windows::Presence::kByFile, .default_period = 2},
        .experts = {.gating = Gating::kSoftmaxOfChosen, .weight_sum = WeightSum::kAsGated},
        .layer_tensors = kGptOssLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kOnlyRoutedExperts,
    },
    Description{
        .architecture = "glm4",
        .rope = RopeKind::kNeighbours,
        .layer_tensors = kGemma2Layer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputsAndGate,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "glm4moe",
        .experts = {.gating = Gating::kSigmoid, .weight_sum = WeightSum::kByFile},
        .layer_tensors = kGlm4MoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "olmo2",
        .head_norm = HeadNorm::kAllHeadsTogether,
        .windows = {.presence = Windows::Presence::kByFile, .default_period = 4, .rope = Windows::Rope::kUnstretched},
        .layer_tensors = kOlmo2Layer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "smollm3",
        .rope = RopeKind::kNeighbours,
        .rope_layers = RopeLayers::kThreeOfFour,
        .scales = kAttentionScaleKey,
        .layer_tensors = kPlainLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "granite",
        .rope = RopeKind::kNeighbours,
        .rope_layers = RopeLayers::kUnlessFileDeclines,
        .scales = kGraniteScales,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kAllRopeGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "command-r",
        .rope = RopeKind::kNeighbours,
        .norm = NormKind::kLayer,
        .block = BlockKind::kParallel,
        .scales = kCommandScales,
        .layer_tensors = kCommandLayer,
        .global_tensors = kEmbeddingAndNorm,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "cohere2",
        .rope = RopeKind::kNeighbours,
        .rope_layers = RopeLayers::kSlidingOnes,
        .norm = NormKind::kLayer,
        .block = BlockKind::kParallel,
        .windows = {.presence = Windows::Presence::kByFile, .default_period = 4},
        .scales = kCommandScales,
        .layer_tensors = kCommandLayer,
        .global_tensors = kEmbeddingAndNorm,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "exaone4",
        .rope_layers = RopeLayers::kSlidingOnes,
        .windows = {.presence = Windows::Presence::kByFile,
                    .default_period = 4,
                    .default_window = 4096,
                    .only_of_depth = 64},  // the 32B model
        .layer_tensors = kExaone4Layer,
        .global_tensors = kRopeFactorGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "qwen2moe",
        .experts = {.gating = Gating::kSoftmax, .weight_sum = WeightSum::kAsGated},
        .layer_tensors = kQwen2MoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "olmoe",
        .head_norm = HeadNorm::kAllHeadsTogether,
        .experts = {.gating = Gating::kSoftmax, .weight_sum = WeightSum::kAsGated},
        .layer_tensors = kOlmoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kOnlyRoutedExperts,
    },
    Description{
        .architecture = "granitemoe",
        .rope = RopeKind::kNeighbours,
        .rope_layers = RopeLayers::kUnlessFileDeclines,
        .scales = kGraniteScales,
        .layer_tensors = kLlamaLayer,
        .global_tensors = kAllRopeGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "hunyuan-dense",
        .head_norm = HeadNorm::kEachHeadAfterRope,
        .layer_tensors = kQwen3Layer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "hunyuan-moe",
        .head_norm = HeadNorm::kEachHeadAfterRope,
        .layer_tensors = kHunyuanMoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "seed_oss",
        .layer_tensors = kSeedLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "ernie4_5",
        .rope = RopeKind::kNeighbours,
        .layer_tensors = kErnieLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "ernie4_5-moe",
        .rope = RopeKind::kNeighbours,
        .layer_tensors = kErnieMoeLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExpertGroups,
    },
    Description{
        .architecture = "internlm2",
        .rope = RopeKind::kNeighbours,
        .layer_tensors = kErnieLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "starcoder2",
        .norm = NormKind::kLayer,
        .activation = Activation::kPlainGelu,
        .layer_tensors = kStarcoder2Layer,
        .global_tensors = kBiasedNormGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kNoExperts,
    },
    Description{
        .architecture = "minimax-m2",
        .head_norm = HeadNorm::kAllHeadsTogether,
        .experts = {.gating = Gating::kSigmoid, .weight_sum = WeightSum::kOne},
        .layer_tensors = kMinimaxLayer,
        .global_tensors = kPlainGlobals,
        .fused_tensors = kFusedInputs,
        .neutral_keys = kOnlyRoutedExperts,
    },
    Description{
        .architecture = "deepseek2",
        .rope = RopeKind::kNeighbours,
        .yarn_magnitude = YarnMagnitude::kOnScores,
        .mixer = Mixer::kLatentAttention,
        .experts = {.gating = Gating::kSoftmax, .weight_sum = WeightSum::kByFile},
        .layer_tensors = kDeepseek2Layer,
        .global_tensors = kPlainGlobals,
        .neutral_keys = kNoTemperature,
    },
    Description{
        .architecture = "lfm2",
        .headless_mixer = Mixer::kShortConvolution,
        .layer_tensors = kLfm2Layer,
        .global_tensors = kMisnamedNormGlobals,
        .neutral_keys = kNoWindowsOrExperts,
    },
    Description{
        .architecture = "lfm2moe",
        .headless_mixer = Mixer::kShortConvolution,
        .experts = {.gating = Gating::kSigmoid, .weight_sum = WeightSum::kOne},
        .layer_tensors = kLfm2MoeLayer,
        .global_tensors = kMisnamedNormGlobals,
        .neutral_keys = kNoWindows,
    },
    Description{
        .architecture = "granitehybrid",
        .rope = RopeKind::kNeighbours,
        .rope_layers = RopeLayers::kUnlessFileDeclines,
        .headless_mixer = Mixer::kStateSpace,
        .scales = kGraniteScales,
        .layer_tensors = kGraniteHybridLayer,
        .global_tensors = kAllRopeGlobals,
        .neutral_keys = kNoExpertGroups,
    },
};

}  // namespace

bool is_multiplied(LayerTensor role) {
  switch (role) {
    case kQuery:
    case kKey:
    case kValue:
    case kAttentionOutput:
    case kQueryDown:
    case kQueryUp:
    case kLatentDown:
    case kMixerInput:
    case kMixerOutput:
    case kGate:
    case kUp:
    case kDown:
    case kRouter:
    case kExpertGate:
    case kExpertUp:
    case kExpertDown:
    case kSharedGate:
    case kSharedUp:
    case kSharedDown:
    case kSharedRouter: return true;
    default: return false;
  }
}

bool has_role(const Description& description, LayerTensor role) {
  return std::ranges::find(description.layer_tensors, role, &LayerTensorRule::role) != description.layer_tensors.end();
}

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
