// A model's hyperparameters and the table of its tensors, read from a GGUF file by a description and checked.
// Key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "model/description.h"
#include "model/gguf.h"
#include "model/rope_parameters.h"
#include "model/shape.h"

namespace baton::model {

// Latent attention: each token's keys and values are made from one row, `rank` elements and a rotated part.
struct LatentAttention {
  std::uint32_t query_rank = 0;      // 0: queries come from the embedding directly
  std::uint32_t rank = 0;            // 0: there is no such attention
  std::uint32_t key_head_width = 0;  // of a head before compression, the rotated part included
  std::uint32_t value_head_width = 0;
};

// Layers that keep a state: a convolution's last inputs, and with a state space what it remembers of all before.
struct Recurrence {
  std::uint32_t taps = 0;            // tokens that the convolution sees, the latest included
  std::uint32_t inner_width = 0;     // of a state space; 0: there is none
  std::uint32_t state_elements = 0;  // for each of its channels
  std::uint32_t heads = 0;
  std::uint32_t groups = 0;

  std::uint32_t convolved_channels() const { return inner_width + 2 * groups * state_elements; }
};

struct LayerHyperparameters {
  Mixer mixer = Mixer::kAttention;
  RopeParameters rope;
  // nullptr for tensors that the layer has not. They point into the GgufFile that was read, or to `parts` below.
  std::array<const TensorInfo*, kLayerTensorCount> tensors{};

  const TensorInfo* tensor(LayerTensor role) const { return tensors[static_cast<std::size_t>(role)]; }
};

// Factors and caps that are 0 are not there.
struct Hyperparameters {
  ModelShape shape;
  float norm_epsilon = 0;
  float attention_scale = 0;  // on the dot product of query and key
  float attention_cap = 0;
  float embedding_scale = 1;
  float residual_scale = 1;
  float logit_scale = 1;
  float logit_cap = 0;
  // Queries grow by 1 + slope * ln(1 + floor(position / length)).
  float temperature_slope = 0;
  std::uint32_t temperature_length = 0;
  Gating gating = Gating::kSoftmax;
  bool expert_weights_sum_to_one = false;
  float expert_weight_scale = 1;
  // Experts lie in this many groups of the same size, of which a token's experts come from the best
  // `expert_groups_used`.
  std::uint32_t expert_groups = 1;
  std::uint32_t expert_groups_used = 1;
  LatentAttention latent;
  Recurrence recurrence;
  std::uint32_t rope_width = 0;  // elements of a head that are rotated
  std::uint32_t rope_original_context_tokens = 0;
  std::vector<LayerHyperparameters> layers;
  std::array<const TensorInfo*, kGlobalTensorCount> globals{};
  // Tensors that are rows of one in the file (a fused QKV matrix).
  std::vector<std::unique_ptr<TensorInfo>> parts;

  const TensorInfo* global(GlobalTensor role) const { return globals[static_cast<std::size_t>(role)]; }
  // The matrix that makes logits: the token embedding where the two are tied.
  const TensorInfo& output_matrix() const;
};

// Reads and checks everything the description needs: numbers within sane limits and in agreement with each other; each
// tensor there, of exactly the right shape and a type that can be computed with (matrices of a weight type, vectors
// F32). kCorrupt names the key or tensor that is wrong; kUnsupported what would need arithmetic we do not have.
// The result points into the file's table of tensors, which moving the file leaves in place.
Result<Hyperparameters> read_hyperparameters(const GgufFile& file, const Description& description);

}  // namespace baton::model
