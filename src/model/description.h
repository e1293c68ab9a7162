// Architectures as data: what one transformer block does differently from another, and what its file calls its parts.
// graph.cpp builds every architecture from these choices; arithmetic that no description asks for does not exist.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace baton::model {

// Tensors of one layer, by what they are for.
enum class LayerTensor : std::uint8_t {
  kAttentionNorm,
  kQuery,
  kQueryBias,
  kQueryNorm,
  kKey,
  kKeyBias,
  kKeyNorm,
  kValue,
  kValueBias,
  kAttentionOutput,
  kAttentionOutputBias,
  kAttentionPostNorm,  // on the attention's result, before it joins the residual stream
  kFeedForwardNorm,
  kGate,
  kGateBias,
  kUp,
  kUpBias,
  kDown,
  kDownBias,
  kFeedForwardPostNorm,
  kCount,
};
inline constexpr std::size_t kLayerTensorCount = static_cast<std::size_t>(LayerTensor::kCount);

// Tensors outside the layers.
enum class GlobalTensor : std::uint8_t {
  kTokenEmbedding,
  kOutputNorm,
  kOutput,       // where missing, the token embedding serves (tied)
  kRopeFactors,  // divides each rotary frequency (Llama 3.1's context stretch)
  kCount,
};
inline constexpr std::size_t kGlobalTensorCount = static_cast<std::size_t>(GlobalTensor::kCount);

// A tensor's dimension, in terms of hyperparameters. kNone ends a shape.
enum class Dimension : std::uint8_t {
  kNone,
  kEmbedding,
  kQueryWidth,  // heads x head width
  kKeyWidth,
  kValueWidth,
  kAttentionWidth,  // heads x value head width
  kKeyHeadWidth,
  kFeedForward,
  kVocabulary,
  kHalfRopeWidth,
};

enum class Need : std::uint8_t { kRequired, kOptional };

template <typename Role>
struct TensorRule {
  Role role;
  std::string_view name;  // in a layer, what follows "blk.N."
  Dimension columns;      // ggml's first dimension: a row's length
  Dimension rows;         // kNone for a vector
  Need need;
};
using LayerTensorRule = TensorRule<LayerTensor>;
using GlobalTensorRule = TensorRule<GlobalTensor>;

// Which pairs of elements a rotation turns: neighbours (0,1)(2,3).., or the halves (0,n/2)(1,n/2+1)...
enum class RopeKind : std::uint8_t { kNeighbours, kHalves };

// f in down(f(gate(x)) * up(x)).
enum class Activation : std::uint8_t { kSilu, kGelu };

enum class AttentionPattern : std::uint8_t {
  kFull,
  // Some layers see a sliding window only: which ones is said by the file, as one number (the last of every so many
  // layers is full) or by a list with a non-zero entry for each sliding layer.
  kSlidingByFile,
};

// Factor on the token embedding.
enum class EmbeddingScale : std::uint8_t { kNone, kRootOfWidth };

// A key that asks for arithmetic this description does not have unless it is missing or has this value.
struct NeutralKey {
  std::string_view suffix;
  double value;
};

struct Description {
  std::string_view architecture;  // general.architecture
  RopeKind rope;
  Activation activation;
  AttentionPattern attention;
  EmbeddingScale embedding_scale;
  std::uint32_t default_sliding_period;  // where the file has a window and no pattern; 0: a window is ignored
  float default_sliding_rope_base;
  // Models of this many layers scale attention by 1/sqrt(embedding / heads) instead of 1/sqrt(head width); 0: none do.
  std::uint32_t layers_scaled_by_embedding;
  std::span<const LayerTensorRule> layer_tensors;
  std::span<const GlobalTensorRule> global_tensors;
  std::span<const NeutralKey> neutral_keys;
};

// The description of an architecture; kUnsupported, naming it and those there are, for an unknown one.
Result<const Description*> find_description(std::string_view architecture);
std::span<const Description> all_descriptions();

// "blk.3.attn_q.weight".
std::string layer_tensor_name(std::uint32_t layer, std::string_view name);

}  // namespace baton::model
