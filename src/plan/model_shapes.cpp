#include "plan/model_shapes.h"

#include <algorithm>
#include <array>
#include <format>

#include "model/tensor_type.h"

namespace baton::plan {

namespace {

// Each from the model's own config.json.
constexpr std::array kModels = {
    PublishedModel{"llama-3.1-8b", "llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, false, 0, 0, 0,
                   "https://huggingface.co/meta-llama/Llama-3.1-8B"},
    PublishedModel{"llama-3.1-70b", "llama", 80, 8192, 28672, 64, 8, 128, 128256, 131072, false, 0, 0, 0,
                   "https://huggingface.co/meta-llama/Llama-3.1-70B"},
    PublishedModel{"llama-3.2-1b", "llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, true, 0, 0, 0,
                   "https://huggingface.co/meta-llama/Llama-3.2-1B"},
    PublishedModel{"llama-3.2-3b", "llama", 28, 3072, 8192, 24, 8, 128, 128256, 131072, true, 0, 0, 0,
                   "https://huggingface.co/meta-llama/Llama-3.2-3B"},
    PublishedModel{"qwen3-8b", "qwen3", 36, 4096, 12288, 32, 8, 128, 151936, 40960, false, 0, 0, 0,
                   "https://huggingface.co/Qwen/Qwen3-8B"},
    PublishedModel{"qwen3-14b", "qwen3", 40, 5120, 17408, 40, 8, 128, 151936, 40960, false, 0, 0, 0,
                   "https://huggingface.co/Qwen/Qwen3-14B"},
    PublishedModel{"qwen3-32b", "qwen3", 64, 5120, 25600, 64, 8, 128, 151936, 40960, false, 0, 0, 0,
                   "https://huggingface.co/Qwen/Qwen3-32B"},
    PublishedModel{"qwen3-30b-a3b", "qwen3moe", 48, 2048, 768, 32, 4, 128, 151936, 40960, false, 128, 8, 0,
                   "https://huggingface.co/Qwen/Qwen3-30B-A3B"},
    PublishedModel{"gpt-oss-20b", "gpt-oss", 24, 2880, 2880, 64, 8, 64, 201088, 131072, false, 32, 4, 128,
                   "https://huggingface.co/openai/gpt-oss-20b"},
    PublishedModel{"gpt-oss-120b", "gpt-oss", 36, 2880, 2880, 64, 8, 64, 201088, 131072, false, 128, 4, 128,
                   "https://huggingface.co/openai/gpt-oss-120b"},
};

constexpr std::array<std::string_view, 4> kTypes = {"f16", "bf16", "q8_0", "q4_0"};

std::uint64_t bytes_of(const model::TensorTypeFacts& type, std::uint64_t weights) {
  return weights / type.block_size * type.block_bytes;
}

model::ModelShape shape_of(const PublishedModel& published, const model::TensorTypeFacts& type) {
  model::ModelShape shape;
  shape.architecture = published.architecture;
  shape.layer_count = published.layers;
  shape.embedding_width = published.embedding_width;
  shape.head_count = published.heads;
  shape.kv_head_count = published.kv_heads;
  shape.key_head_width = shape.value_head_width = published.head_width;
  shape.vocabulary_size = published.vocabulary;
  shape.trained_context_tokens = published.context;
  const std::uint64_t width = published.embedding_width;
  const std::uint64_t gated_network = 3 * width * published.feed_forward_width;
  model::LayerShape layer;
  layer.memory = {.k_width = shape.k_width(), .v_width = shape.v_width()};
  // Query and output, key and value.
  layer.weight_count = 2 * width * published.heads * published.head_width + width * (shape.k_width() + shape.v_width());
  if (published.experts > 0) {
    shape.expert_count = layer.expert_count = published.experts;
    shape.experts_per_token = layer.experts_per_token = published.experts_per_token;
    shape.expert_feed_forward_width = published.feed_forward_width;
    layer.expert_weight_count = published.experts * gated_network;
    layer.expert_weight_bytes = bytes_of(type, layer.expert_weight_count);
    layer.weight_count += layer.expert_weight_count + width * published.experts;  // and the router
  } else {
    shape.feed_forward_width = published.feed_forward_width;
    layer.weight_count += gated_network;
  }
  layer.weight_bytes = bytes_of(type, layer.weight_count);
  shape.layers.assign(published.layers, layer);
  for (std::uint32_t index = 0; index < published.layers; index += 2) {
    shape.layers[index].attention_window = published.window;
  }
  shape.head_weight_count = width * published.vocabulary;
  shape.head_weight_bytes = bytes_of(type, shape.head_weight_count);
  shape.embedding_bytes = published.tied ? 0 : shape.head_weight_bytes;
  return shape;
}

}  // namespace

std::span<const PublishedModel> published_models() { return kModels; }
std::span<const std::string_view> published_types() { return kTypes; }

Result<model::ModelShape> find_model_shape(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  const std::string_view base = name.substr(0, dash);
  const std::string_view suffix = dash == std::string_view::npos ? "" : name.substr(dash + 1);
  const auto found = std::ranges::find(kModels, base, &PublishedModel::name);
  if (found != kModels.end() && std::ranges::contains(kTypes, suffix)) {
    return shape_of(*found, *model::find_tensor_type(suffix));
  }
  std::string names;
  for (const PublishedModel& model : kModels) names += std::format("{}{}", names.empty() ? "" : ", ", model.name);
  std::string types;
  for (const std::string_view type : kTypes) types += std::format("{}-{}", types.empty() ? "" : ", ", type);
  return fail(ErrorCode::kNotFound,
              std::format("no shape of a model '{}'; there are {}, each followed by {}", name, names, types));
}

}  // namespace baton::plan
