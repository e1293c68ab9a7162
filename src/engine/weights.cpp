#include "engine/weights.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <thread>
#include <utility>

#include "engine/step_weights.h"

namespace baton::engine {

namespace {

// Matmuls read whole vectors from a weight; llama.cpp's files align tensors to this.
constexpr std::uintptr_t kMappedAlignment = 32;

}  // namespace

Weights::Weights(std::shared_ptr<const Model> model, const GgmlDevice& device, FewRows few_rows)
    : model_(std::move(model)),
      device_(device),
      few_rows_(few_rows),
      layers_(model_->shape().layer_count),
      loaded_(model_->shape().layer_count + 2) {
  const model::GgufFile& file = model_->file();
  std::uint64_t largest = 0;
  for (const model::TensorInfo& info : file.tensors()) largest = std::max(largest, info.bytes);
  for (std::size_t part = 0; part < file.part_count(); ++part) {
    const ByteSpan bytes = file.part_bytes(part);
    mappings_.push_back(device_.wrap(bytes.data(), bytes.size(), largest));
    GgmlBuffer& mapping = mappings_.back();
    if (mapping != nullptr) ggml_backend_buffer_set_usage(mapping.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  }
}

Weights::~Weights() = default;

bool Weights::holds(LayerRange layers) const {
  const std::uint32_t count = model_->shape().layer_count;
  if (layers.empty() || layers.end > count) return false;
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    if (!loaded_[layer]) return false;
  }
  return (layers.begin > 0 || loaded_[count]) && (layers.end < count || loaded_[count + 1]);
}

Result<void> Weights::ensure(LayerRange layers, const std::function<Result<void>()>& check) {
  const model::Hyperparameters& hyperparameters = model_->hyperparameters();
  const std::uint32_t count = model_->shape().layer_count;
  std::vector<Wanted> wanted;
  std::vector<std::size_t> done;
  const model::TensorInfo* factors = hyperparameters.global(model::GlobalTensor::kRopeFactors);
  if (factors != nullptr && rope_factors_ == nullptr) wanted.push_back({factors, Use::kOther, &rope_factors_});
  if (layers.begin == 0 && !loaded_[count]) {
    wanted.push_back({hyperparameters.global(model::GlobalTensor::kTokenEmbedding), Use::kOther, &embedding_});
    done.push_back(count);
  }
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    if (loaded_[layer]) continue;
    for (std::size_t role = 0; role < model::kLayerTensorCount; ++role) {
      const model::TensorInfo* info = hyperparameters.layers[layer].tensors[role];
      if (info == nullptr) continue;
      const bool multiplied = model::is_multiplied(static_cast<model::LayerTensor>(role));
      wanted.push_back({info, multiplied ? Use::kMultiply : Use::kOther, &layers_[layer].tensors[role]});
    }
    done.push_back(layer);
  }
  if (layers.end == count && !loaded_[count + 1]) {
    using enum model::GlobalTensor;
    wanted.push_back({hyperparameters.global(kOutputNorm), Use::kOther, &head_.norm});
    wanted.push_back({&hyperparameters.output_matrix(), Use::kMultiply, &head_.output});
    for (const auto& [role, slot] : {std::pair{kOutputNormBias, &head_.norm_bias}, {kOutputBias, &head_.output_bias}}) {
      if (const auto* bias = hyperparameters.global(role)) wanted.push_back({bias, Use::kOther, slot});
    }
    done.push_back(count + 1);
  }
  TRY(load(wanted));
  TRY(check());
  for (const std::size_t index : done) loaded_[index] = true;
  return {};
}

bool Weights::can_map(const model::TensorInfo& info) const {
  const auto address = reinterpret_cast<std::uintptr_t>(model_->file().tensor_bytes(info).data());
  return mappings_[info.part] != nullptr && address % kMappedAlignment == 0;
}

Result<void> Weights::load(std::span<const Wanted> wanted) {
  if (wanted.empty()) return {};
  GgmlContext context = make_context(wanted.size());
  std::vector<Upload> uploads;
  std::vector<ggml_tensor*> tensors;
  for (const Wanted& want : wanted) {
    const auto type = static_cast<ggml_type>(want.info->type);
    std::array<std::int64_t, model::kMaxTensorDimensions> shape{};
    std::ranges::copy(want.info->shape, shape.begin());
    ggml_tensor* tensor = ggml_new_tensor(context.get(), type, static_cast<int>(shape.size()), shape.data());
    ggml_set_name(tensor, want.info->name.c_str());
    if (ggml_nbytes(tensor) != want.info->bytes) {
      return fail(ErrorCode::kInternal, "ggml and the file disagree about the size of '" + want.info->name + "'");
    }
    TRY(place(tensor, want, uploads));
    tensors.push_back(tensor);
  }
  upload(uploads);
  for (std::size_t index = 0; index < wanted.size(); ++index) *wanted[index].slot = tensors[index];
  contexts_.push_back(std::move(context));
  return {};
}

Result<void> Weights::place(ggml_tensor* tensor, const Wanted& wanted, std::vector<Upload>& uploads) {
  const bool multiplied = wanted.use == Use::kMultiply;
  const bool has_copy = multiplied && few_rows_ == FewRows::kByStepWeights && StepWeights::copies(*wanted.info);
  ggml_backend_buffer_type_t repacked = multiplied && !has_copy ? device_.repacked_memory_for(*tensor) : nullptr;
  if (repacked == nullptr && can_map(*wanted.info)) {
    void* address = const_cast<std::byte*>(model_->file().tensor_bytes(*wanted.info).data());
    if (ggml_backend_tensor_alloc(mappings_[wanted.info->part].get(), tensor, address) != GGML_STATUS_SUCCESS) {
      return fail(ErrorCode::kInternal, "cannot use '" + wanted.info->name + "' in place");
    }
    if (!has_copy) mapped_bytes_ += wanted.info->bytes;
    return {};
  }
  ggml_backend_buffer_type_t kind = repacked != nullptr ? repacked : device_.memory();
  const std::size_t size = ggml_backend_buft_get_alloc_size(kind, tensor);
  GgmlBuffer buffer = TRY(device_.allocate(kind, size));
  device_.prefer_large_pages(buffer.get());
  ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  if (ggml_backend_tensor_alloc(buffer.get(), tensor, ggml_backend_buffer_get_base(buffer.get())) !=
      GGML_STATUS_SUCCESS) {
    return fail(ErrorCode::kInternal, "cannot place '" + wanted.info->name + "' on the device");
  }
  buffers_.push_back(std::move(buffer));
  uploads.push_back({tensor, wanted.info, repacked != nullptr ? Place::kRepacked : Place::kCopied});
  (repacked != nullptr ? repacked_bytes_ : copied_bytes_) += size;
  return {};
}

void Weights::upload(std::span<const Upload> uploads) const {
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t index = next++; index < uploads.size(); index = next++) {
      const auto& [tensor, info, place] = uploads[index];
      const ByteSpan bytes = model_->file().tensor_bytes(*info);
      ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
      // The device has its own copy now; the file's pages need not stay in memory beside it.
      model_->file().release(bytes);
    }
  };
  // Repacking is the CPU's work, and each tensor stands alone; other devices take their copies one by one.
  const bool in_parallel = device_.is_host_memory();
  std::vector<std::jthread> helpers;
  for (unsigned helper = 1; in_parallel && helper < device_.threads() && helper < uploads.size(); ++helper) {
    helpers.emplace_back(work);
  }
  work();
}

void Weights::add_to(EngineStats& stats) const {
  stats.mapped_weight_bytes = mapped_bytes_;
  stats.copied_weight_bytes = copied_bytes_;
  stats.repacked_weight_bytes = repacked_bytes_;
}

}  // namespace baton::engine
