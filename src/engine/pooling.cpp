#include "engine/pooling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <format>

#include <ggml.h>

namespace baton::engine {

namespace {

constexpr std::string_view kHeadMatrix = "cls.output.weight";
constexpr std::string_view kHeadBias = "cls.output.bias";
constexpr std::uint64_t kMostLabels = 1024;

// The numbers of llama.cpp's enumeration llama_pooling_type, which converters write.
enum class StoredPooling : std::int64_t { kNone = 0, kMean = 1, kFirst = 2, kLast = 3, kRank = 4 };

Result<std::optional<StoredPooling>> stored_pooling(const Model& model) {
  const std::string key = std::format("{}.pooling_type", model.description().architecture);
  const auto number = TRY(model.file().find<std::int64_t>(key));
  // Converters write -1 (as u32: the largest number) for "nothing is said".
  if (!number || *number == -1 || *number == 0xFFFFFFFF) return std::nullopt;
  if (*number < static_cast<std::int64_t>(StoredPooling::kNone) ||
      *number > static_cast<std::int64_t>(StoredPooling::kRank)) {
    return model.file().error(ErrorCode::kCorrupt, std::format("key '{}' is {}, which is no pooling", key, *number));
  }
  return static_cast<StoredPooling>(*number);
}

Result<std::vector<float>> read_values(const Model& model, const model::TensorInfo& tensor) {
  const auto* traits = ggml_get_type_traits(static_cast<ggml_type>(tensor.type));
  const ByteSpan bytes = model.file().tensor_bytes(tensor);
  std::vector<float> values(tensor.elements());
  if (tensor.type == model::TensorType::kF32) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
  } else if (traits->to_float != nullptr) {
    traits->to_float(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
  } else {
    return model.file().error(ErrorCode::kUnsupported,
                              std::format("the tensor '{}' is of a type that cannot be read", tensor.name));
  }
  return values;
}

}  // namespace

Result<Pooling> read_pooling(const Model& model) {
  switch (TRY(stored_pooling(model)).value_or(StoredPooling::kLast)) {
    case StoredPooling::kMean: return Pooling::kMean;
    case StoredPooling::kNone:
    case StoredPooling::kLast: return Pooling::kLast;
    case StoredPooling::kRank:
      return fail(ErrorCode::kUnsupported, "this model judges pairs of texts and makes no embeddings: ask /v1/rerank");
    case StoredPooling::kFirst: break;
  }
  return fail(ErrorCode::kUnsupported, "this model makes embeddings of its first token, which only encoders can");
}

void normalise(std::span<float> vector) {
  double sum = 0;
  for (const float value : vector) sum += static_cast<double>(value) * value;
  if (sum == 0) return;
  const double factor = 1 / std::sqrt(sum);
  for (float& value : vector) value = static_cast<float>(value * factor);
}

Result<RankHead> RankHead::read(const Model& model) {
  const model::TensorInfo* matrix = model.file().find_tensor(kHeadMatrix);
  const bool ranks = TRY(stored_pooling(model))
  == StoredPooling::kRank;
  if (!ranks || matrix == nullptr || model.description().architecture != "qwen3") {
    return fail(ErrorCode::kUnsupported,
                "this model cannot judge documents: a reranker is needed, such as a conversion of Qwen3-Reranker (with "
                "pooling_type 4 and the tensor 'cls.output.weight')");
  }
  const std::uint64_t labels = matrix->shape[1];
  const bool right_shape = matrix->shape[0] == model.shape().embedding_width && labels >= 2 && labels <= kMostLabels &&
                           matrix->elements() == matrix->shape[0] * labels;
  if (!right_shape) {
    return model.file().error(ErrorCode::kCorrupt,
                              std::format("the tensor '{}' must have {} columns and a row for each of its labels",
                                          kHeadMatrix, model.shape().embedding_width));
  }
  std::vector<float> weights = TRY(read_values(model, *matrix));
  std::vector<float> biases(labels);
  if (const model::TensorInfo* bias = model.file().find_tensor(kHeadBias)) {
    if (bias->elements() != labels) {
      return model.file().error(ErrorCode::kCorrupt,
                                std::format("the tensor '{}' must have {} elements", kHeadBias, labels));
    }
    biases = TRY(read_values(model, *bias));
  }
  return RankHead(std::move(weights), std::move(biases));
}

float RankHead::score(std::span<const float> row) const {
  std::vector<double> sums;
  for (std::size_t label = 0; label < biases_.size(); ++label) {
    const auto weights = std::span(weights_).subspan(label * row.size(), row.size());
    double sum = biases_[label];
    for (std::size_t index = 0; index < row.size(); ++index) sum += static_cast<double>(weights[index]) * row[index];
    sums.push_back(sum);
  }
  const double largest = std::ranges::max(sums);
  double total = 0;
  for (double& sum : sums) total += sum = std::exp(sum - largest);
  return static_cast<float>(sums.front() / total);
}

}  // namespace baton::engine
