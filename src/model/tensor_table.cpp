#include "model/tensor_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <format>
#include <memory>
#include <string>
#include <vector>

namespace baton::model {

namespace {

constexpr std::string_view kRouterName = "ffn_gate_inp.weight";

class TensorFinder {
 public:
  TensorFinder(const KeyReader& keys, const Description& description, Hyperparameters& result)
      : keys_(keys), file_(keys.file()), description_(description), result_(result) {}

  Result<void> find_globals() {
    for (const GlobalTensorRule& rule : description_.global_tensors) {
      const TensorInfo*& found = result_.globals[static_cast<std::size_t>(rule.role)];
      if (found == nullptr) found = TRY(find(rule, std::string(rule.name)));
    }
    return check_rope_factors();
  }

  Result<void> find_layer(std::uint32_t layer) {
    layer_ = layer;
    const LayerKind kind = is_sparse(file_, description_, layer) ? LayerKind::kSparse : LayerKind::kDense;
    for (const LayerTensorRule& rule : description_.layer_tensors) {
      if (rule.layers != LayerKind::kAll && rule.layers != kind) continue;
      if (rule.only && *rule.only != result_.layers[layer].mixer) continue;
      slot(rule.role) = TRY(find_part(rule));
    }
    TRY(check_latent_query());
    return check_shared_expert();
  }

  void add_up() {
    ModelShape& shape = result_.shape;
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      LayerShape& sums = shape.layers[layer];
      const LayerHyperparameters& found = result_.layers[layer];
      for (const LayerTensorRule& rule : description_.layer_tensors) {
        const TensorInfo* info = found.tensor(rule.role);
        if (info == nullptr) continue;
        sums.weight_count += info->elements();
        sums.weight_bytes += info->bytes;
        if (rule.kind != TensorKind::kExpertMatrices) continue;
        sums.expert_weight_count += info->elements();
        sums.expert_weight_bytes += info->bytes;
      }
      if (sums.expert_weight_count == 0) continue;
      sums.expert_count = shape.expert_count;
      sums.experts_per_token = shape.experts_per_token;
    }
    const TensorInfo& norm = *result_.global(GlobalTensor::kOutputNorm);
    const TensorInfo& output = result_.output_matrix();
    shape.head_weight_count = norm.elements() + output.elements();
    shape.head_weight_bytes = norm.bytes + output.bytes;
    shape.embedding_bytes = result_.global(GlobalTensor::kTokenEmbedding)->bytes;
  }

 private:
  const TensorInfo*& slot(LayerTensor role) { return result_.layers[layer_].tensors[static_cast<std::size_t>(role)]; }

  std::uint64_t length(Dimension dimension) const {
    const ModelShape& shape = result_.shape;
    switch (dimension) {
      case Dimension::kNone: return 1;
      case Dimension::kEmbedding: return shape.embedding_width;
      case Dimension::kQueryWidth: return std::uint64_t{shape.head_count} * shape.key_head_width;
      case Dimension::kKeyWidth: return shape.k_width();
      case Dimension::kValueWidth: return shape.v_width();
      case Dimension::kAttentionWidth:
        return std::uint64_t{shape.head_count} *
               (result_.latent.rank == 0 ? shape.value_head_width : result_.latent.value_head_width);
      case Dimension::kHeads: return shape.head_count;
      case Dimension::kKeyValueHeads: return shape.kv_head_count;
      case Dimension::kKeyHeadWidth: return shape.key_head_width;
      case Dimension::kFeedForward: return shape.feed_forward_width;
      case Dimension::kExperts: return shape.expert_count;
      case Dimension::kExpertFeedForward: return shape.expert_feed_forward_width;
      case Dimension::kSharedFeedForward: return shape.shared_feed_forward_width;
      case Dimension::kVocabulary: return shape.vocabulary_size;
      case Dimension::kQueryRank: return result_.latent.query_rank;
      case Dimension::kLatentRank: return result_.latent.rank;
      case Dimension::kLatentWidth: return shape.key_head_width;
      case Dimension::kPlainKeyWidth: return result_.latent.key_head_width - result_.rope_width;
      case Dimension::kWholeQueryWidth: return std::uint64_t{shape.head_count} * result_.latent.key_head_width;
      case Dimension::kLatentValueWidth: return result_.latent.value_head_width;
      case Dimension::kTaps: return result_.recurrence.taps;
      case Dimension::kThreeEmbeddings: return std::uint64_t{3} * shape.embedding_width;
      case Dimension::kStateSpaceInput:
        return std::uint64_t{result_.recurrence.inner_width} + result_.recurrence.convolved_channels() +
               result_.recurrence.heads;
      case Dimension::kConvolvedChannels: return result_.recurrence.convolved_channels();
      case Dimension::kStateSpaceWidth: return result_.recurrence.inner_width;
      case Dimension::kStateSpaceHeads: return result_.recurrence.heads;
      case Dimension::kStateSpaceGroups: return result_.recurrence.groups;
      case Dimension::kStateSpaceGroupWidth: return result_.recurrence.inner_width / result_.recurrence.groups;
      case Dimension::kHalfRopeWidth: return result_.rope_width / 2;
    }
    return 1;
  }

  template <typename Role>
  std::array<std::uint64_t, kMaxTensorDimensions> wanted_shape(const TensorRule<Role>& rule) const {
    std::uint64_t matrices = 1;
    if (rule.kind == TensorKind::kExpertMatrices) matrices = length(Dimension::kExperts);
    if (rule.kind == TensorKind::kHeadMatrices) matrices = length(Dimension::kHeads);
    return {length(rule.columns), length(rule.rows), matrices, 1};
  }

  Result<void> check_shape(const TensorInfo& info,
                           const std::array<std::uint64_t, kMaxTensorDimensions>& wanted) const {
    if (info.shape == wanted) return {};
    return keys_.corrupt(std::format("tensor '{}' is [{}, {}, {}, {}], but the hyperparameters say [{}, {}, {}]",
                                     info.name, info.shape[0], info.shape[1], info.shape[2], info.shape[3], wanted[0],
                                     wanted[1], wanted[2]));
  }

  Result<void> check_type(const TensorInfo& info, TensorKind kind) const {
    const bool vectors = kind == TensorKind::kVector || kind == TensorKind::kVectors;
    if (vectors ? info.type == TensorType::kF32 : facts(info.type).use == TensorUse::kWeight) return {};
    return keys_.unsupported(
        std::format("tensor '{}' has type {}, which cannot be computed with", info.name, facts(info.type).name));
  }

  template <typename Role>
  Result<const TensorInfo*> find(const TensorRule<Role>& rule, const std::string& name) const {
    const TensorInfo* info = file_.find_tensor(name);
    if (info == nullptr) {
      if (rule.need == Need::kOptional) return nullptr;
      return keys_.corrupt(std::format("the tensor '{}' is missing", name));
    }
    TRY(check_shape(*info, wanted_shape(rule)));
    TRY(check_type(*info, rule.kind));
    TRY(check_scale(name));
    return info;
  }

  const LayerTensorRule& rule_of(LayerTensor role) const {
    return *std::ranges::find(description_.layer_tensors, role, &LayerTensorRule::role);
  }

  // The fused tensor of this layer that holds `role`, if the file has one.
  const FusedTensor* fused_with(LayerTensor role) const {
    for (const FusedTensor& fused : description_.fused_tensors) {
      if (std::ranges::find(fused.parts, role) == fused.parts.end()) continue;
      const std::string_view first = rule_of(fused.parts.front()).name;
      if (file_.find_tensor(layer_tensor_name(layer_, fused.name)) == nullptr) continue;
      if (file_.find_tensor(layer_tensor_name(layer_, first)) == nullptr) return &fused;
    }
    return nullptr;
  }

  Result<const TensorInfo*> find_part(const LayerTensorRule& rule) {
    const FusedTensor* fused = fused_with(rule.role);
    if (fused == nullptr) return find(rule, layer_tensor_name(layer_, rule.name));
    const std::string name = layer_tensor_name(layer_, fused->name);
    const TensorInfo& whole = *file_.find_tensor(name);
    // A matrix is cut by rows, which are whole blocks; a vector by its elements.
    const std::size_t cut = rule.kind == TensorKind::kVector ? 0 : 1;
    auto wanted = wanted_shape(rule);
    const std::uint64_t own = wanted[cut];
    std::uint64_t before = 0;
    wanted[cut] = 0;
    for (const LayerTensor part : fused->parts) {
      if (part == rule.role) before = wanted[cut];
      wanted[cut] += wanted_shape(rule_of(part))[cut];
    }
    TRY(check_shape(whole, wanted));
    TRY(check_type(whole, rule.kind));
    TRY(check_scale(name));
    auto part = std::make_unique<TensorInfo>(whole);
    part->name = std::format("{}[{}:{}]", name, before, before + own);
    part->shape[cut] = own;
    const std::uint64_t unit_bytes = whole.bytes / whole.shape[cut];
    part->offset += before * unit_bytes;
    part->bytes = own * unit_bytes;
    result_.parts.push_back(std::move(part));
    return result_.parts.back().get();
  }

  // A matrix may come with a factor for the whole of it, or one per expert; only 1 means that there is nothing to do.
  Result<void> check_scale(const std::string& name) const {
    const std::string_view suffix = ".weight";
    if (!name.ends_with(suffix)) return {};
    const std::string scale_name = name.substr(0, name.size() - suffix.size()) + ".scale";
    const TensorInfo* scale = file_.find_tensor(scale_name);
    if (scale == nullptr) return {};
    bool neutral = scale->type == TensorType::kF32;
    const ByteSpan bytes = file_.tensor_bytes(*scale);
    for (std::size_t at = 0; neutral && at < bytes.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, bytes.data() + at, sizeof(value));
      neutral = value == 1.0F;
    }
    if (neutral) return {};
    return keys_.unsupported(
        std::format("tensor '{}' holds something else than 1, which is not supported", scale_name));
  }

  // Frequencies are divided by these.
  Result<void> check_rope_factors() const {
    const TensorInfo* factors = result_.global(GlobalTensor::kRopeFactors);
    if (factors == nullptr) return {};
    const ByteSpan bytes = file_.tensor_bytes(*factors);
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, bytes.data() + at, sizeof(value));
      if (!std::isfinite(value) || value <= 0) {
        return keys_.corrupt(std::format("tensor '{}' holds {}, not a positive number", factors->name, value));
      }
    }
    return {};
  }

  // Queries come from one matrix, or through a narrow middle.
  Result<void> check_latent_query() {
    if (result_.layers[layer_].mixer != Mixer::kLatentAttention) return {};
    using enum LayerTensor;
    const bool narrow = result_.latent.query_rank != 0;
    const auto needed = narrow ? std::vector{kQueryDown, kQueryDownNorm, kQueryUp} : std::vector{kQuery};
    for (const LayerTensor role : needed) {
      if (slot(role) != nullptr) continue;
      return keys_.corrupt(std::format("the tensor '{}' is missing", layer_tensor_name(layer_, rule_of(role).name)));
    }
    return {};
  }

  // Files without a shared expert have none of its tensors; a file with some of them has lost the others.
  Result<void> check_shared_expert() {
    constexpr std::array kParts = {LayerTensor::kSharedGate, LayerTensor::kSharedUp, LayerTensor::kSharedDown};
    const auto there = [&](LayerTensor role) { return slot(role) != nullptr; };
    const auto found = std::ranges::count_if(kParts, there);
    const bool promised = slot(LayerTensor::kRouter) != nullptr && result_.shape.shared_feed_forward_width > 0;
    if (found == std::ssize(kParts) || (found == 0 && !promised)) return {};
    const LayerTensor missing = *std::ranges::find_if_not(kParts, there);
    return keys_.corrupt(std::format("the tensor '{}' is missing", layer_tensor_name(layer_, rule_of(missing).name)));
  }

  const KeyReader& keys_;
  const GgufFile& file_;
  const Description& description_;
  Hyperparameters& result_;
  std::uint32_t layer_ = 0;
};

}  // namespace

bool is_sparse(const GgufFile& file, const Description& description, std::uint32_t layer) {
  return has_role(description, LayerTensor::kRouter) &&
         file.find_tensor(layer_tensor_name(layer, kRouterName)) != nullptr;
}

Result<void> find_tensors(const KeyReader& keys, const Description& description, Hyperparameters& hyperparameters) {
  TensorFinder finder(keys, description, hyperparameters);
  TRY(finder.find_globals());
  for (std::uint32_t layer = 0; layer < hyperparameters.shape.layer_count; ++layer) TRY(finder.find_layer(layer));
  finder.add_up();
  return {};
}

}  // namespace baton::model
