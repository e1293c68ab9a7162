// Architectures as data: what one transformer block does differently from another, and what its file calls its parts.
// graph.cpp builds every architecture from these choices; arithmetic that no description asks for does not exist.
// docs/models.md tells how to add one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace baton::model {

// Tensors of one layer, by what they are for.
enum class LayerTensor : std::uint8_t {
  kAttentionNorm,  // where a layer has none, attention reads the residual stream as it is
  kAttentionNormBias,
  kQuery,
  kQueryBias,
  kQueryNorm,
  kKey,
  kKeyBias,
  kKeyNorm,
  kValue,
  kValueBias,
  kAttentionSinks,  // per head, a score that takes its share of attention and gives nothing for it
  kAttentionOutput,
  kAttentionOutputBias,
  // Of latent attention.
  kQueryDown,  // queries may come through a narrow middle
  kQueryDownNorm,
  kQueryUp,
  kLatentDown,  // the latent, then the part of keys that is rotated and that all heads share
  kLatentNorm,
  kKeyUp,    // per head, what makes the rest of its keys from the latent; turned round, it takes its queries there
  kValueUp,  // per head, what makes its values from the latent
  // Of layers that keep a state.
  kMixerInput,
  kMixerOutput,
  kConvolution,  // per channel, weights of the last few tokens
  kConvolutionBias,
  kStepBias,           // per head: on the size of a step
  kDecay,              // per head: how fast the state fades
  kSkip,               // per head: how much of its input goes past the state
  kStateNorm,          // on what comes out of it, group by group
  kAttentionPostNorm,  // on the attention's result, before it joins the residual stream
  kFeedForwardNorm,
  kFeedForwardNormBias,
  kGate,
  kGateBias,
  kUp,
  kUpBias,
  kDown,
  kDownBias,
  kRouter,  // scores the experts; a layer that has it is sparse
  kRouterBias,
  kSelectionBias,  // added to the experts' weights for choosing among them, and for nothing else
  kExpertGate,
  kExpertGateBias,
  kExpertUp,
  kExpertUpBias,
  kExpertDown,
  kExpertDownBias,
  kSharedGate,  // of the expert that every token passes through
  kSharedUp,
  kSharedDown,
  kSharedRouter,  // weighs that expert's result
  kFeedForwardPostNorm,
  kCount,
};
inline constexpr std::size_t kLayerTensorCount = static_cast<std::size_t>(LayerTensor::kCount);

// Whether a pass multiplies by this tensor; the others are norms, biases and the like.
bool is_multiplied(LayerTensor role);

// Tensors outside the layers.
enum class GlobalTensor : std::uint8_t {
  kTokenEmbedding,
  kOutputNorm,
  kOutputNormBias,
  kOutput,  // where missing, the token embedding serves (tied)
  kOutputBias,
  kRopeFactors,  // divides each rotary frequency (Llama 3.1's context stretch, LongRoPE)
  kCount,
};
inline constexpr std::size_t kGlobalTensorCount = static_cast<std::size_t>(GlobalTensor::kCount);

// A tensor's dimension, in terms of hyperparameters.
enum class Dimension : std::uint8_t {
  kNone,
  kEmbedding,
  kQueryWidth,  // heads x head width
  kKeyWidth,
  kValueWidth,
  kAttentionWidth,  // heads x value head width
  kHeads,
  kKeyValueHeads,
  kQueryRank,
  kLatentRank,
  kLatentWidth,       // latent and rotated part
  kPlainKeyWidth,     // of a head, what is not rotated
  kWholeQueryWidth,   // heads x (that and the rotated part)
  kLatentValueWidth,  // of a head
  kTaps,              // tokens that a convolution sees
  kThreeEmbeddings,
  kStateSpaceInput,    // inner width, convolved channels and a step per head
  kConvolvedChannels,  // of a state space: input, and what writes and reads the state
  kStateSpaceWidth,
  kStateSpaceHeads,
  kStateSpaceGroups,
  kStateSpaceGroupWidth,
  kKeyHeadWidth,
  kFeedForward,
  kExperts,
  kExpertFeedForward,
  kSharedFeedForward,
  kVocabulary,
  kHalfRopeWidth,
};

enum class TensorKind : std::uint8_t {
  kVector,          // F32 [columns]
  kVectors,         // F32 [columns, rows]: one vector per head or per expert
  kMatrix,          // [columns, rows], of any type that can be multiplied by
  kExpertMatrices,  // [columns, rows, experts], the same
  kHeadMatrices,    // [columns, rows, heads], the same
};

enum class Need : std::uint8_t { kRequired, kOptional };

// Which layers a tensor belongs to.
enum class LayerKind : std::uint8_t { kAll, kDense, kSparse };

// How a layer brings earlier tokens in.
enum class Mixer : std::uint8_t {
  kAttention,
  kLatentAttention,   // over one compressed row per token (DeepSeek-V2, 2024), in its absorbed form
  kShortConvolution,  // gated, over the last few tokens (LFM2)
  kStateSpace,        // Mamba-2 (Dao and Gu, 2024)
};

template <typename Role>
struct TensorRule {
  Role role;
  TensorKind kind;
  std::string_view name;  // in a layer, what follows "blk.N."
  Dimension columns;      // ggml's first dimension: a row's length
  Dimension rows;         // kNone for a vector
  Need need;
  LayerKind layers = LayerKind::kAll;
  std::optional<Mixer> only = {};  // only in layers with this mixer
};
using LayerTensorRule = TensorRule<LayerTensor>;
using GlobalTensorRule = TensorRule<GlobalTensor>;

// Several tensors that a file may hold as one: the rows of the first, then those of the next. It counts where the
// file has it and not the first part by itself.
struct FusedTensor {
  std::string_view name;
  std::span<const LayerTensor> parts;
};

// Which pairs of elements a rotation turns: neighbours (0,1)(2,3).., or the halves (0,n/2)(1,n/2+1)...
enum class RopeKind : std::uint8_t { kNeighbours, kHalves };

// Which layers rotate queries and keys at all.
enum class RopeLayers : std::uint8_t {
  kAll,
  kSlidingOnes,         // where there are windows, only layers that have one
  kThreeOfFour,         // not every fourth
  kUnlessFileDeclines,  // `rope.scaling.finetuned` false says that there is none
};

// Where YaRN's length scaling of attention goes.
enum class YarnMagnitude : std::uint8_t {
  kOnRotation,
  kOnScores,  // of all elements, rotated or not (DeepSeek's mscale); the file states a tenth of its weight
};

enum class NormKind : std::uint8_t {
  kRootMeanSquare,
  kLayer,  // mean taken off, then to unit variance (Ba et al., 2016)
};

// What a norm of queries and keys spans, where there is one.
enum class HeadNorm : std::uint8_t {
  kEachHead,
  kEachHeadAfterRope,
  kAllHeadsTogether,
};

enum class BlockKind : std::uint8_t {
  kSequential,  // the feed-forward network sees what attention added
  kParallel,    // both see the same normed input
};

enum class Activation : std::uint8_t {
  kSilu,         // down(silu(gate(x)) * up(x))
  kGelu,         // the same with gelu
  kClampedSilu,  // gpt-oss: clamped, sharper, and 1 added to up(x)
  kPlainGelu,    // no gate: down(gelu(up(x)))
};

// Sliding windows. Which layers have one is said by the file, as one number (the last of every so many layers is full)
// or by a list with a non-zero entry for each sliding layer.
struct SlidingWindows {
  enum class Presence : std::uint8_t { kNever, kByFile };
  enum class Rope : std::uint8_t {
    kLikeOthers,
    kUnstretched,  // no scaling of the context
  };
  Presence presence = Presence::kNever;
  std::uint32_t default_period = 0;  // where the file has a window and no pattern
  std::uint32_t default_window = 0;  // where the file states none; 0: there is none
  Rope rope = Rope::kLikeOthers;
  float default_rope_base = 0;      // 0: the same as for full layers
  std::uint32_t only_of_depth = 0;  // models of another number of layers have no windows; 0: any may
};

// Factors and caps that an architecture reads from its file. 0 in the file means that there is none.
enum class Scale : std::uint8_t {
  kEmbedding,         // times the token embedding
  kAttention,         // times the dot product of query and key
  kAttentionCap,      // c * tanh(score / c)
  kResidual,          // times what a layer adds to the stream
  kLogits,            // times the logits
  kLogitsDivisor,     // logits divided by it
  kLogitCap,          // c * tanh(logit / c)
  kTemperatureSlope,  // queries far into the text grow with the logarithm of their position
  kCount,
};
inline constexpr std::size_t kScaleCount = static_cast<std::size_t>(Scale::kCount);

struct ScaleKey {
  Scale scale;
  std::string_view suffix;
  float fallback;  // where the key is missing
};

// Factor on the token embedding that needs no key.
enum class EmbeddingScale : std::uint8_t { kNone, kRootOfWidth };

// How the router's scores become weights. The numbers are GGUF's `expert_gating_func`.
enum class Gating : std::uint8_t {
  kSoftmax = 1,          // over all experts
  kSigmoid = 2,          // each by itself
  kSoftmaxOfChosen = 3,  // over the chosen ones' scores
};

// How many of a group's best experts score it: DeepSeek-V2 takes the best (its report, "device-limited routing"),
// DeepSeek-V3 the sum of two (its report, "node-limited routing"); GGUF has no key for it, but they gate differently.
constexpr std::uint32_t experts_in_group_score(Gating gating) { return gating == Gating::kSigmoid ? 2 : 1; }

enum class WeightSum : std::uint8_t {
  kAsGated,
  kOne,     // the chosen experts' weights are divided by their sum
  kByFile,  // `expert_weights_norm` says
};

struct ExpertRules {
  Gating gating = Gating::kSoftmax;  // where the file does not say
  WeightSum weight_sum = WeightSum::kOne;
};

// A key that asks for arithmetic this description does not have unless it is missing or at most this.
struct NeutralKey {
  std::string_view suffix;
  double most;
};

struct Description {
  std::string_view architecture;  // general.architecture
  RopeKind rope = RopeKind::kHalves;
  RopeLayers rope_layers = RopeLayers::kAll;
  YarnMagnitude yarn_magnitude = YarnMagnitude::kOnRotation;
  Mixer mixer = Mixer::kAttention;
  std::optional<Mixer> headless_mixer = {};  // of layers that the file gives no KV heads; nothing: there are none
  NormKind norm = NormKind::kRootMeanSquare;
  HeadNorm head_norm = HeadNorm::kEachHead;
  BlockKind block = BlockKind::kSequential;
  Activation activation = Activation::kSilu;
  SlidingWindows windows = {};
  EmbeddingScale embedding_scale = EmbeddingScale::kNone;
  // Models of this many layers scale attention by 1/sqrt(embedding / heads) instead of 1/sqrt(head width); 0: none do.
  std::uint32_t layers_scaled_by_embedding = 0;
  ExpertRules experts = {};
  std::span<const ScaleKey> scales = {};
  std::span<const LayerTensorRule> layer_tensors = {};
  std::span<const GlobalTensorRule> global_tensors = {};  // of two for one role, the first that is there counts
  std::span<const FusedTensor> fused_tensors = {};
  std::span<const NeutralKey> neutral_keys = {};
};

bool has_role(const Description& description, LayerTensor role);

// The description of an architecture; kUnsupported, naming it and those there are, for an unknown one.
Result<const Description*> find_description(std::string_view architecture);
std::span<const Description> all_descriptions();

// "blk.3.attn_q.weight".
std::string layer_tensor_name(std::uint32_t layer, std::string_view name);

}  // namespace baton::model
