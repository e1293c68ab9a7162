#include "model/hyperparameters.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <format>
#include <string>

#include "model/key_reader.h"
#include "model/tensor_table.h"

namespace baton::model {

namespace {

constexpr std::uint32_t kMaxTaps = 256;
constexpr std::uint64_t kMaxStateWidth = 1U << 26U;

class Reader {
 public:
  Reader(const GgufFile& file, const Description& description)
      : keys_(file, description.architecture), description_(description) {}

  Result<Hyperparameters> read() {
    TRY(refuse_foreign_arithmetic());
    TRY(read_sizes());
    TRY(read_head_sizes());
    TRY(read_vocabulary_size());
    TRY(read_mixers());
    TRY(read_experts());
    TRY(read_norm());
    TRY(read_scales());
    const RopeStretch rope = TRY(read_rope(keys_, result_.shape.key_head_width, result_.shape.trained_context_tokens,
                                           description_.yarn_magnitude));
    TRY(apply_rope(rope));
    TRY(read_memory());
    TRY(find_tensors(keys_, description_, result_));
    return std::move(result_);
  }

 private:
  Result<void> refuse_foreign_arithmetic() {
    for (const NeutralKey& neutral : description_.neutral_keys) {
      if (!keys_.has(neutral.suffix)) continue;
      const double value = TRY(keys_.number(neutral.suffix));
      if (value <= neutral.most) continue;
      return keys_.unsupported(
          std::format("'{}' is {}, which this version cannot compute yet", keys_.name(neutral.suffix), value));
    }
    return {};
  }

  Result<void> read_sizes() {
    ModelShape& shape = result_.shape;
    shape.architecture = description_.architecture;
    const auto blocks = TRY(keys_.size("block_count", kMaxLayers));
    // The last blocks may be drafters of further tokens, which are no part of the model itself.
    const auto drafters = TRY(keys_.count("nextn_predict_layers", kMaxLayers));
    if (drafters >= blocks) {
      return keys_.corrupt(
          std::format("'{}' is {} of {} layers", keys_.name("nextn_predict_layers"), drafters, blocks));
    }
    shape.layer_count = blocks - drafters;
    block_count_ = blocks;
    shape.embedding_width = TRY(keys_.size("embedding_length", kMaxWidth));
    shape.trained_context_tokens = TRY(keys_.size("context_length", kMaxContext));
    const bool all_sparse = first_layer(LayerKind::kDense) == shape.layer_count;
    if (!all_sparse || keys_.has("feed_forward_length")) {
      shape.feed_forward_width = TRY(keys_.uniform("feed_forward_length", blocks, kMaxWidth));
    }
    shape.head_count = TRY(keys_.uniform("attention.head_count", blocks, kMaxHeads));
    shape.kv_head_count = shape.head_count;
    if (keys_.has("attention.head_count_kv")) {
      if (description_.headless_mixer) {
        kv_heads_ = TRY(keys_.uniform_or_none("attention.head_count_kv", blocks, kMaxHeads));
        shape.kv_head_count = *std::ranges::max_element(kv_heads_);
      } else {
        shape.kv_head_count = TRY(keys_.uniform("attention.head_count_kv", blocks, kMaxHeads));
      }
    }
    return {};
  }

  Result<void> read_head_sizes() {
    ModelShape& shape = result_.shape;
    if (shape.head_count % shape.kv_head_count != 0) {
      return keys_.corrupt(
          std::format("{} heads cannot share {} KV heads evenly", shape.head_count, shape.kv_head_count));
    }
    const bool stated = keys_.has("attention.key_length") && keys_.has("attention.value_length");
    if (!stated && shape.embedding_width % shape.head_count != 0) {
      return keys_.corrupt(
          std::format("an embedding of {} does not divide into {} heads, and 'attention.key_length' is missing",
                      shape.embedding_width, shape.head_count));
    }
    const std::uint32_t even_share = std::max(1U, shape.embedding_width / shape.head_count);
    shape.key_head_width = TRY(keys_.size_or("attention.key_length", even_share, kMaxHeadWidth));
    shape.value_head_width = TRY(keys_.size_or("attention.value_length", even_share, kMaxHeadWidth));
    return {};
  }

  Result<void> read_mixers() {
    const ModelShape& shape = result_.shape;
    result_.layers.resize(shape.layer_count);
    bool headless = false;
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      const bool has_heads = kv_heads_.empty() || kv_heads_[layer] != 0;
      result_.layers[layer].mixer = has_heads ? description_.mixer : *description_.headless_mixer;
      headless = headless || !has_heads;
    }
    if (description_.mixer == Mixer::kLatentAttention) TRY(read_latent_attention());
    return headless ? read_recurrence() : Result<void>{};
  }

  Result<void> read_latent_attention() {
    const ModelShape& shape = result_.shape;
    if (file().find_tensor("blk.0.attn_kv_b.weight") != nullptr && !file().find_tensor("blk.0.attn_k_b.weight")) {
      return keys_.unsupported("it was made by an early converter, which left 'attn_kv_b' whole; convert it anew");
    }
    LatentAttention& latent = result_.latent;
    latent.query_rank = TRY(keys_.count("attention.q_lora_rank", kMaxWidth));
    latent.rank = TRY(keys_.size("attention.kv_lora_rank", kMaxHeadWidth));
    latent.key_head_width = TRY(keys_.size("attention.key_length_mla", kMaxHeadWidth));
    latent.value_head_width = TRY(keys_.size("attention.value_length_mla", kMaxHeadWidth));
    const auto rotated = TRY(keys_.size("rope.dimension_count", kMaxHeadWidth));
    if (rotated >= latent.key_head_width || shape.key_head_width != latent.rank + rotated ||
        shape.value_head_width != latent.rank || shape.kv_head_count != 1) {
      return keys_.corrupt(
          std::format("a latent of {} with {} rotated elements, keys of {} and values of {} by heads of {} contradict "
                      "each other",
                      latent.rank, rotated, shape.key_head_width, shape.value_head_width, latent.key_head_width));
    }
    return {};
  }

  Result<void> read_recurrence() {
    Recurrence& found = result_.recurrence;
    if (*description_.headless_mixer == Mixer::kShortConvolution) {
      found.taps = TRY(keys_.size("shortconv.l_cache", kMaxTaps));
    } else {
      found.taps = TRY(keys_.size("ssm.conv_kernel", kMaxTaps));
      found.inner_width = TRY(keys_.size("ssm.inner_size", kMaxWidth));
      found.state_elements = TRY(keys_.size("ssm.state_size", kMaxHeadWidth));
      found.heads = TRY(keys_.size("ssm.time_step_rank", kMaxHeads));
      found.groups = TRY(keys_.size("ssm.group_count", kMaxHeads));
      if (found.inner_width % found.heads != 0 || found.heads % found.groups != 0) {
        return keys_.corrupt(std::format("a state space of {} channels, {} heads and {} groups does not divide evenly",
                                         found.inner_width, found.heads, found.groups));
      }
    }
    if (found.taps < 2) return keys_.corrupt("a convolution over one token keeps nothing");
    return {};
  }

  Result<std::uint32_t> state_width(std::uint64_t elements) const {
    if (elements > kMaxStateWidth) return keys_.corrupt(std::format("a layer's state has {} elements", elements));
    return static_cast<std::uint32_t>(elements);
  }

  // After the rotated width is known.
  Result<void> read_memory() {
    const Recurrence& recurrence = result_.recurrence;
    for (std::uint32_t layer = 0; layer < result_.shape.layer_count; ++layer) {
      LayerMemory& memory = result_.shape.layers[layer].memory;
      const std::uint32_t kept_inputs = recurrence.taps - 1;
      switch (result_.layers[layer].mixer) {
        case Mixer::kAttention:
          memory = {.k_width = result_.shape.k_width(), .v_width = result_.shape.v_width()};
          break;
        case Mixer::kLatentAttention: memory = {.k_width = result_.shape.key_head_width}; break;
        case Mixer::kShortConvolution:
          memory.state_width = TRY(state_width(std::uint64_t{kept_inputs} * result_.shape.embedding_width));
          break;
        case Mixer::kStateSpace:
          memory.state_width = TRY(state_width(std::uint64_t{kept_inputs} * recurrence.convolved_channels() +
                                               std::uint64_t{recurrence.inner_width} * recurrence.state_elements));
          break;
      }
    }
    return {};
  }

  // The embedding table decides; a stated size must agree with it.
  Result<void> read_vocabulary_size() {
    const TensorInfo* table = file().find_tensor("token_embd.weight");
    if (table == nullptr) return keys_.corrupt("the tensor 'token_embd.weight' is missing");
    if (table->shape[1] > kMaxVocabulary) {
      return keys_.corrupt(std::format("'token_embd.weight' has {} rows, more than any vocabulary", table->shape[1]));
    }
    result_.shape.vocabulary_size = static_cast<std::uint32_t>(table->shape[1]);
    const std::string key = keys_.name("vocab_size");
    const auto stated = TRY(file().get_or<std::uint32_t>(key, result_.shape.vocabulary_size));
    if (stated != result_.shape.vocabulary_size) {
      return keys_.corrupt(
          std::format("'{}' is {}, but 'token_embd.weight' has {} rows", key, stated, result_.shape.vocabulary_size));
    }
    return {};
  }

  // The first layer of this kind; the number of layers where there is none.
  std::uint32_t first_layer(LayerKind kind) const {
    const std::uint32_t count = result_.shape.layer_count;
    for (std::uint32_t layer = 0; layer < count; ++layer) {
      if (is_sparse(file(), description_, layer) == (kind == LayerKind::kSparse)) return layer;
    }
    return count;
  }

  std::unexpected<Error> missing(std::uint32_t layer, std::string_view tensor) const {
    return keys_.corrupt(std::format("the tensor '{}' is missing", layer_tensor_name(layer, tensor)));
  }

  // The rows of a tensor of the first sparse layer, for widths that files state under different keys or not at all; 0
  // where there is none.
  Result<std::uint32_t> rows_of(std::uint32_t layer, std::string_view tensor) const {
    const std::string name = layer_tensor_name(layer, tensor);
    const TensorInfo* info = file().find_tensor(name);
    if (info == nullptr) return 0;
    if (info->shape[1] > kMaxWidth) {
      return keys_.corrupt(std::format("tensor '{}' has {} rows, more than any model", name, info->shape[1]));
    }
    return static_cast<std::uint32_t>(info->shape[1]);
  }

  Result<void> read_experts() {
    ModelShape& shape = result_.shape;
    const std::uint32_t layer = first_layer(LayerKind::kSparse);
    const auto stated = TRY(keys_.count("expert_count", kMaxExperts));
    if (layer == shape.layer_count) {
      if (stated == 0) return {};
      return keys_.corrupt(std::format("'{}' is {}, but no layer has a tensor 'ffn_gate_inp.weight'",
                                       keys_.name("expert_count"), stated));
    }
    shape.expert_count = TRY(keys_.size("expert_count", kMaxExperts));
    shape.experts_per_token = TRY(keys_.size("expert_used_count", shape.expert_count));
    shape.expert_feed_forward_width = TRY(rows_of(layer, "ffn_up_exps.weight"));
    if (shape.expert_feed_forward_width == 0) return missing(layer, "ffn_up_exps.weight");
    const auto width = TRY(keys_.count("expert_feed_forward_length", kMaxWidth));
    if (width != 0 && width != shape.expert_feed_forward_width) {
      return keys_.corrupt(
          std::format("'{}' is {}, but tensor '{}' has {} rows", keys_.name("expert_feed_forward_length"), width,
                      layer_tensor_name(layer, "ffn_up_exps.weight"), shape.expert_feed_forward_width));
    }
    if (!has_role(description_, LayerTensor::kSharedUp)) return read_router();
    shape.shared_feed_forward_width = TRY(rows_of(layer, "ffn_up_shexp.weight"));
    const auto shared = TRY(keys_.count("expert_shared_count", kMaxExperts));
    if (shared > 0 && shape.shared_feed_forward_width == 0) return missing(layer, "ffn_up_shexp.weight");
    return read_router();
  }

  Result<void> read_router() {
    const auto gating = TRY(keys_.count("expert_gating_func", 3));
    result_.gating = gating == 0 ? description_.experts.gating : static_cast<Gating>(gating);
    result_.expert_weights_sum_to_one = description_.experts.weight_sum == WeightSum::kOne;
    if (description_.experts.weight_sum == WeightSum::kByFile) {
      result_.expert_weights_sum_to_one = TRY(file().get_or<bool>(keys_.name("expert_weights_norm"), false));
    }
    const float scale = TRY(keys_.factor_or("expert_weights_scale", 0));
    if (scale != 0) result_.expert_weight_scale = scale;
    return read_expert_groups();
  }

  Result<void> read_expert_groups() {
    const ModelShape& shape = result_.shape;
    const auto groups = TRY(keys_.count("expert_group_count", shape.expert_count));
    if (groups <= 1) return {};
    result_.expert_groups = groups;
    result_.expert_groups_used = TRY(keys_.size("expert_group_used_count", groups));
    const std::uint32_t in_group = shape.expert_count / groups;
    if (shape.expert_count % groups != 0 || in_group < experts_in_group_score(result_.gating)) {
      return keys_.corrupt(
          std::format("{} experts do not make {} groups ('{}') of the same size, each large enough to be scored",
                      shape.expert_count, groups, keys_.name("expert_group_count")));
    }
    if (shape.experts_per_token > in_group * result_.expert_groups_used) {
      return keys_.corrupt(std::format("'{}' is {}, but the {} groups that '{}' allows have {} experts",
                                       keys_.name("expert_used_count"), shape.experts_per_token,
                                       result_.expert_groups_used, keys_.name("expert_group_used_count"),
                                       in_group * result_.expert_groups_used));
    }
    return {};
  }

  Result<void> read_norm() {
    const bool layer_norm = description_.norm == NormKind::kLayer;
    result_.norm_epsilon =
        TRY(keys_.positive(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
    return {};
  }

  Result<void> read_scales() {
    const ModelShape& shape = result_.shape;
    std::array<float, kScaleCount> stated{};
    for (const ScaleKey& key : description_.scales) {
      stated[static_cast<std::size_t>(key.scale)] = TRY(keys_.factor_or(key.suffix, key.fallback));
    }
    const auto value = [&](Scale scale, float without) {
      const float found = stated[static_cast<std::size_t>(scale)];
      return found == 0 ? without : found;
    };
    const bool by_embedding = description_.layers_scaled_by_embedding == shape.layer_count;
    const std::uint32_t head_width = result_.latent.rank == 0 ? shape.key_head_width : result_.latent.key_head_width;
    const std::uint32_t scale_width =
        by_embedding ? std::max(1U, shape.embedding_width / shape.head_count) : head_width;
    result_.attention_scale = value(Scale::kAttention, 1.0F / std::sqrt(static_cast<float>(scale_width)));
    result_.attention_cap = value(Scale::kAttentionCap, 0);
    const bool by_root = description_.embedding_scale == EmbeddingScale::kRootOfWidth;
    result_.embedding_scale =
        value(Scale::kEmbedding, by_root ? std::sqrt(static_cast<float>(shape.embedding_width)) : 1.0F);
    result_.residual_scale = value(Scale::kResidual, 1);
    result_.logit_scale = value(Scale::kLogits, 1) / value(Scale::kLogitsDivisor, 1);
    result_.logit_cap = value(Scale::kLogitCap, 0);
    result_.temperature_slope = value(Scale::kTemperatureSlope, 0);
    return {};
  }

  Result<void> apply_rope(const RopeStretch& rope) {
    const std::uint32_t layers = result_.shape.layer_count;
    result_.rope_width = rope.width;
    result_.rope_original_context_tokens = rope.original_context_tokens;
    result_.temperature_length = rope.original_context_tokens;
    result_.attention_scale *= rope.score_scale;
    result_.shape.layers.resize(layers);
    for (LayerHyperparameters& layer : result_.layers) layer.rope = rope.full;
    TRY(read_windows(rope));
    return choose_rotated_layers();
  }

  Result<void> read_windows(const RopeStretch& rope) {
    const SlidingWindows& windows = description_.windows;
    const std::uint32_t layers = result_.shape.layer_count;
    if (windows.presence == SlidingWindows::Presence::kNever) return {};
    if (windows.only_of_depth != 0 && windows.only_of_depth != layers) return {};
    const auto window =
        TRY(file().get_or<std::uint32_t>(keys_.name("attention.sliding_window"), windows.default_window));
    if (window == 0) return {};
    if (window > kMaxContext) {
      return keys_.corrupt(std::format("'{}' is {}", keys_.name("attention.sliding_window"), window));
    }
    RopeParameters near = rope.full;
    if (windows.rope == SlidingWindows::Rope::kUnstretched) near = {.base = rope.full.base};
    near.base = TRY(keys_.positive_or("rope.freq_base_swa",
                                      windows.default_rope_base == 0 ? rope.full.base : windows.default_rope_base));
    const auto sliding = TRY(sliding_layers(layers));
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      if (!sliding[layer]) continue;
      result_.shape.layers[layer].attention_window = window;
      result_.layers[layer].rope = near;
    }
    return {};
  }

  Result<std::vector<bool>> sliding_layers(std::uint32_t layers) const {
    const std::string name = keys_.name("attention.sliding_window_pattern");
    std::vector<bool> sliding(layers, false);
    if (file().type_of(name) == ValueType::kArray) {
      // Converters write numbers or truth values.
      auto flags = file().get_array<bool>(name);
      if (!flags) {
        const auto numbers = TRY(file().get_array<std::uint32_t>(name));
        flags = std::vector<bool>(numbers.begin(), numbers.end());
      }
      if (flags->size() != layers && flags->size() != block_count_) {
        return keys_.corrupt(std::format("'{}' has {} entries for {} layers", name, flags->size(), layers));
      }
      std::copy_n(flags->begin(), layers, sliding.begin());
      return sliding;
    }
    const auto period = TRY(file().get_or<std::uint32_t>(name, description_.windows.default_period));
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      sliding[layer] = period == 0 || layer % period != period - 1;
    }
    return sliding;
  }

  Result<void> choose_rotated_layers() {
    constexpr std::uint32_t kFour = 4;
    const bool any_window =
        std::ranges::any_of(result_.shape.layers, [](const LayerShape& layer) { return layer.attention_window != 0; });
    const bool declined = !TRY(file().get_or<bool>(keys_.name("rope.scaling.finetuned"), true));
    for (std::uint32_t layer = 0; layer < result_.shape.layer_count; ++layer) {
      bool& rotates = result_.layers[layer].rope.rotates;
      switch (description_.rope_layers) {
        case RopeLayers::kAll: break;
        case RopeLayers::kSlidingOnes:
          rotates = !any_window || result_.shape.layers[layer].attention_window != 0;
          break;
        case RopeLayers::kThreeOfFour: rotates = layer % kFour != kFour - 1; break;
        case RopeLayers::kUnlessFileDeclines: rotates = !declined; break;
      }
    }
    return {};
  }

  const GgufFile& file() const { return keys_.file(); }

  KeyReader keys_;
  const Description& description_;
  std::uint32_t block_count_ = 0;        // drafters included
  std::vector<std::uint32_t> kv_heads_;  // of each block, where an architecture may have layers without any
  Hyperparameters result_;
};

}  // namespace

const TensorInfo& Hyperparameters::output_matrix() const {
  const TensorInfo* own = global(GlobalTensor::kOutput);
  return own != nullptr ? *own : *global(GlobalTensor::kTokenEmbedding);
}

Result<Hyperparameters> read_hyperparameters(const GgufFile& file, const Description& description) {
  return Reader(file, description).read();
}

}  // namespace baton::model
