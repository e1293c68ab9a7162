#include "model/hyperparameters.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <format>
#include <string>

namespace baton::model {

namespace {

// Far above any model there is; they keep products of two inside 64 bits and loops short on a hostile file.
constexpr std::uint32_t kMaxLayers = 1024;
constexpr std::uint32_t kMaxWidth = 1U << 20U;
constexpr std::uint32_t kMaxHeads = 4096;
constexpr std::uint32_t kMaxHeadWidth = 1024;
constexpr std::uint32_t kMaxVocabulary = 1U << 24U;
constexpr std::uint32_t kMaxContext = 1U << 30U;

class Reader {
 public:
  Reader(const GgufFile& file, const Description& description) : file_(file), description_(description) {}

  Result<Hyperparameters> read() {
    TRY(refuse_foreign_arithmetic());
    TRY(read_sizes());
    TRY(read_norm_and_scales());
    TRY(read_rope());
    TRY(read_windows());
    TRY(find_tensors());
    return std::move(result_);
  }

 private:
  std::string key(std::string_view suffix) const { return std::format("{}.{}", description_.architecture, suffix); }

  std::unexpected<Error> corrupt(std::string message) const {
    return file_.error(ErrorCode::kCorrupt, std::move(message));
  }
  std::unexpected<Error> unsupported(std::string message) const {
    return file_.error(ErrorCode::kUnsupported, std::move(message));
  }

  Result<void> refuse_foreign_arithmetic() {
    for (const NeutralKey& neutral : description_.neutral_keys) {
      const std::string name = key(neutral.suffix);
      const auto type = file_.type_of(name);
      if (!type) continue;
      const double value = *type == ValueType::kF32 || *type == ValueType::kF64 ? TRY(file_.get<double>(name))
                               : static_cast<double>(TRY(file_.get<std::int64_t>(name)));
                               if (value != neutral.value) {
                                 return unsupported(
                                     std::format("'{}' is {}, which this version cannot compute yet", name, value));
                               }
    }
    return {};
  }

  Result<std::uint32_t> checked(std::string_view name, std::uint32_t value, std::uint32_t limit) const {
    if (value < 1 || value > limit) {
      return corrupt(std::format("'{}' is {}, not between 1 and {}", name, value, limit));
    }
    return value;
  }
  Result<std::uint32_t> size(std::string_view suffix, std::uint32_t limit) const {
    const std::string name = key(suffix);
    const auto value = TRY(file_.get<std::uint32_t>(name));
    return checked(name, value, limit);
  }
  Result<std::uint32_t> size_or(std::string_view suffix, std::uint32_t fallback, std::uint32_t limit) const {
    const std::string name = key(suffix);
    const auto value = TRY(file_.get_or<std::uint32_t>(name, fallback));
    return checked(name, value, limit);
  }
  // Some files state per layer what is the same in all of them.
  Result<std::uint32_t> uniform(std::string_view suffix, std::uint32_t layers, std::uint32_t limit) const {
    const std::string name = key(suffix);
    const auto values = TRY(file_.get_per_layer<std::uint32_t>(name, layers));
    if (std::ranges::adjacent_find(values, std::not_equal_to<>()) != values.end()) {
      return unsupported(std::format("'{}' differs from layer to layer, which is not supported yet", name));
    }
    return checked(name, values.front(), limit);
  }
  Result<float> positive(const std::string& name, float value) const {
    if (!std::isfinite(value) || value <= 0)
      return corrupt(std::format("'{}' is {}, not a positive number", name, value));
    return value;
  }
  Result<float> positive_or(std::string_view suffix, float fallback) const {
    const std::string name = key(suffix);
    const auto value = TRY(file_.get_or<float>(name, fallback));
    return positive(name, value);
  }

  Result<void> read_sizes() {
    ModelShape& shape = result_.shape;
    shape.architecture = description_.architecture;
    shape.layer_count = TRY(size("block_count", kMaxLayers));
    shape.embedding_width = TRY(size("embedding_length", kMaxWidth));
    shape.feed_forward_width = TRY(uniform("feed_forward_length", shape.layer_count, kMaxWidth));
    shape.trained_context_tokens = TRY(size("context_length", kMaxContext));
    shape.head_count = TRY(uniform("attention.head_count", shape.layer_count, kMaxHeads));
    shape.kv_head_count = file_.has(key("attention.head_count_kv"))
        ? TRY(uniform("attention.head_count_kv", shape.layer_count, kMaxHeads))
                              : shape.head_count;
                              if (shape.head_count % shape.kv_head_count != 0) {
                                return corrupt(std::format("{} heads cannot share {} KV heads evenly", shape.head_count,
                                                           shape.kv_head_count));
                              }
                              const bool states_head_widths =
                                  file_.has(key("attention.key_length")) && file_.has(key("attention.value_length"));
                              if (!states_head_widths && shape.embedding_width % shape.head_count != 0) {
                                return corrupt(
                                    std::format("an embedding of {} does not divide into {} heads, and "
                                                "'attention.key_length' is missing",
                                                shape.embedding_width, shape.head_count));
                              }
                              const std::uint32_t even_share = std::max(1U, shape.embedding_width / shape.head_count);
                              shape.key_head_width = TRY(size_or("attention.key_length", even_share, kMaxHeadWidth));
                              shape.value_head_width =
                                  TRY(size_or("attention.value_length", even_share, kMaxHeadWidth));
                              return read_vocabulary_size();
  }

  // The embedding table decides; a stated size must agree with it.
  Result<void> read_vocabulary_size() {
    const TensorInfo* table = file_.find_tensor("token_embd.weight");
    if (table == nullptr) return corrupt("the tensor 'token_embd.weight' is missing");
    if (table->shape[1] > kMaxVocabulary) {
      return corrupt(std::format("'token_embd.weight' has {} rows, more than any vocabulary", table->shape[1]));
    }
    result_.shape.vocabulary_size = static_cast<std::uint32_t>(table->shape[1]);
    const auto stated = TRY(file_.get_or<std::uint32_t>(key("vocab_size"), result_.shape.vocabulary_size));
    if (stated != result_.shape.vocabulary_size) {
      return corrupt(std::format("'{}' is {}, but 'token_embd.weight' has {} rows", key("vocab_size"), stated,
                                 result_.shape.vocabulary_size));
    }
    return {};
  }

  Result<void> read_norm_and_scales() {
    const ModelShape& shape = result_.shape;
    const std::string epsilon = key("attention.layer_norm_rms_epsilon");
    const auto stated_epsilon = TRY(file_.get<float>(epsilon));
    result_.norm_epsilon = TRY(positive(epsilon, stated_epsilon));
    const bool by_embedding = description_.layers_scaled_by_embedding == shape.layer_count;
    const std::uint32_t scale_width =
        by_embedding ? std::max(1U, shape.embedding_width / shape.head_count) : shape.key_head_width;
    result_.attention_scale = 1.0F / std::sqrt(static_cast<float>(scale_width));
    if (description_.embedding_scale == EmbeddingScale::kRootOfWidth) {
      result_.embedding_scale = std::sqrt(static_cast<float>(shape.embedding_width));
    }
    return {};
  }

  Result<void> read_rope() {
    const ModelShape& shape = result_.shape;
    result_.rope_width = TRY(size_or("rope.dimension_count", shape.key_head_width, kMaxHeadWidth));
    if (result_.rope_width % 2 != 0 || result_.rope_width > shape.key_head_width) {
      return corrupt(std::format("'{}' is {}: not even, or wider than a head of {}", key("rope.dimension_count"),
                                 result_.rope_width, shape.key_head_width));
    }
    result_.rope_original_context_tokens =
        TRY(size_or("rope.scaling.original_context_length", shape.trained_context_tokens, kMaxContext));

    const float base = TRY(positive_or("rope.freq_base", 10000.0F));
    const auto kind = TRY(file_.get_or<std::string_view>(key("rope.scaling.type"), "linear"));
    if (kind != "none" && kind != "linear") {
      return unsupported(
          std::format("'{}' is '{}', which this version cannot compute yet", key("rope.scaling.type"), kind));
    }
    float factor = 1;
    if (kind == "linear") {
      factor = TRY(file_.get_or<float>(key("rope.scaling.factor"), 0.0F));
      if (factor == 0) factor = TRY(file_.get_or<float>(key("rope.scale_linear"), 0.0F));  // its older name
      if (factor == 0) factor = 1;  // written where there is none
      TRY(positive(key("rope.scaling.factor"), factor));
    }
    result_.layers.assign(shape.layer_count, {.rope_base = base, .rope_scale = 1.0F / factor, .tensors = {}});
    result_.shape.layers.assign(shape.layer_count, {});
    return {};
  }

  Result<void> read_windows() {
    if (description_.attention != AttentionPattern::kSlidingByFile) return {};
    const std::uint32_t layers = result_.shape.layer_count;
    const auto window = TRY(file_.get_or<std::uint32_t>(key("attention.sliding_window"), 0));
    if (window == 0) return {};
    if (window > kMaxContext) return corrupt(std::format("'{}' is {}", key("attention.sliding_window"), window));
    const float base = TRY(positive_or("rope.freq_base_swa", description_.default_sliding_rope_base));
    const auto sliding = TRY(sliding_layers(layers));
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      if (!sliding[layer]) continue;
      result_.shape.layers[layer].attention_window = window;
      // Sliding layers see near positions only, so their frequencies are not stretched.
      result_.layers[layer].rope_base = base;
      result_.layers[layer].rope_scale = 1;
    }
    return {};
  }

  Result<std::vector<bool>> sliding_layers(std::uint32_t layers) const {
    const std::string name = key("attention.sliding_window_pattern");
    std::vector<bool> sliding(layers, false);
    if (file_.type_of(name) == ValueType::kArray) {
      const auto flags = TRY(file_.get_array<std::uint32_t>(name));
      if (flags.size() != layers) {
        return corrupt(std::format("'{}' has {} entries for {} layers", name, flags.size(), layers));
      }
      for (std::uint32_t layer = 0; layer < layers; ++layer) sliding[layer] = flags[layer] != 0;
      return sliding;
    }
    const auto period = TRY(file_.get_or<std::uint32_t>(name, description_.default_sliding_period));
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      sliding[layer] = period != 0 && layer % period != period - 1;
    }
    return sliding;
  }

  std::uint64_t length(Dimension dimension) const {
    const ModelShape& shape = result_.shape;
    switch (dimension) {
      case Dimension::kNone: return 1;
      case Dimension::kEmbedding: return shape.embedding_width;
      case Dimension::kQueryWidth: return std::uint64_t{shape.head_count} * shape.key_head_width;
      case Dimension::kKeyWidth: return shape.k_width();
      case Dimension::kValueWidth: return shape.v_width();
      case Dimension::kAttentionWidth: return std::uint64_t{shape.head_count} * shape.value_head_width;
      case Dimension::kKeyHeadWidth: return shape.key_head_width;
      case Dimension::kFeedForward: return shape.feed_forward_width;
      case Dimension::kVocabulary: return shape.vocabulary_size;
      case Dimension::kHalfRopeWidth: return result_.rope_width / 2;
    }
    return 1;
  }

  template <typename Role>
  Result<const TensorInfo*> find(const TensorRule<Role>& rule, const std::string& name) const {
    const TensorInfo* info = file_.find_tensor(name);
    if (info == nullptr) {
      if (rule.need == Need::kOptional) return nullptr;
      return corrupt(std::format("the tensor '{}' is missing", name));
    }
    const std::uint64_t columns = length(rule.columns);
    const std::uint64_t rows = length(rule.rows);
    if (info->shape[0] != columns || info->shape[1] != rows || info->shape[2] != 1 || info->shape[3] != 1) {
      return corrupt(std::format("tensor '{}' is [{}, {}, {}, {}], but the hyperparameters say [{}, {}]", name,
                                 info->shape[0], info->shape[1], info->shape[2], info->shape[3], columns, rows));
    }
    const bool is_vector = rule.rows == Dimension::kNone;
    if (is_vector ? info->type != TensorType::kF32 : facts(info->type).use != TensorUse::kWeight) {
      return unsupported(
          std::format("tensor '{}' has type {}, which cannot be computed with", name, facts(info->type).name));
    }
    TRY(check_scale(name));
    return info;
  }

  // A matrix may come with a factor for the whole of it; only 1 means that there is nothing to do.
  Result<void> check_scale(const std::string& name) const {
    const std::string_view suffix = ".weight";
    if (!name.ends_with(suffix)) return {};
    const std::string scale_name = name.substr(0, name.size() - suffix.size()) + ".scale";
    const TensorInfo* scale = file_.find_tensor(scale_name);
    if (scale == nullptr) return {};
    float value = 0;
    const ByteSpan bytes = file_.tensor_bytes(*scale);
    if (scale->type == TensorType::kF32 && bytes.size() == sizeof(value))
      std::memcpy(&value, bytes.data(), sizeof(value));
    if (value != 1.0F)
      return unsupported(std::format("tensor '{}' is not a single 1, which is not supported yet", scale_name));
    return {};
  }

  Result<void> find_tensors() {
    ModelShape& shape = result_.shape;
    for (const GlobalTensorRule& rule : description_.global_tensors) {
      result_.globals[static_cast<std::size_t>(rule.role)] = TRY(find(rule, std::string(rule.name)));
    }
    TRY(check_rope_factors());
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      for (const LayerTensorRule& rule : description_.layer_tensors) {
        const TensorInfo* info = TRY(find(rule, layer_tensor_name(layer, rule.name)));
        result_.layers[layer].tensors[static_cast<std::size_t>(rule.role)] = info;
        if (info == nullptr) continue;
        shape.layers[layer].weight_count += info->elements();
        shape.layers[layer].weight_bytes += info->bytes;
      }
    }
    const TensorInfo& norm = *result_.global(GlobalTensor::kOutputNorm);
    const TensorInfo& output = result_.output_matrix();
    shape.head_weight_count = norm.elements() + output.elements();
    shape.head_weight_bytes = norm.bytes + output.bytes;
    shape.embedding_bytes = result_.global(GlobalTensor::kTokenEmbedding)->bytes;
    return {};
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
        return corrupt(std::format("tensor '{}' holds {}, not a positive number", factors->name, value));
      }
    }
    return {};
  }

  const GgufFile& file_;
  const Description& description_;
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
