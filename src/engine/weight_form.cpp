#include "engine/weight_form.h"

#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

namespace baton::engine {

namespace {

using model::TensorType;

std::optional<Storage> storage_in_file(TensorType type) {
  switch (type) {
    case TensorType::kF32: return Storage::kF32;
    case TensorType::kF16: return Storage::kF16;
    case TensorType::kBF16: return Storage::kBf16;
    default: return std::nullopt;
  }
}

std::size_t element_bytes(Storage storage) {
  switch (storage) {
    case Storage::kF32: return 4;
    case Storage::kF16:
    case Storage::kBf16: return 2;
    case Storage::kInt8: return 1;
  }
  return 0;
}

// Eight bits for each value and a scale for each group. The largest magnitude becomes 127, so values that are already
// multiples of a scale with a largest of 127 (Q8_0) come out as they went in.
void to_int8(std::span<const float> row, std::int8_t* weights, float* scales, std::size_t scale_step) {
  for (std::size_t group = 0; group * kScaleGroup < row.size(); ++group) {
    const std::span<const float> values = row.subspan(group * kScaleGroup, kScaleGroup);
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    const float scale = largest / 127.0F;
    const float inverse = largest > 0 ? 127.0F / largest : 0;
    scales[group * scale_step] = scale;
    for (std::size_t i = 0; i < values.size(); ++i) {
      weights[group * kScaleGroup + i] = static_cast<std::int8_t>(std::lrint(values[i] * inverse));
    }
  }
}

}  // namespace

std::optional<Coding> choose_coding(TensorType type, std::int64_t columns, std::int64_t rows, MatrixUse use,
                                    PrefillPack pack) {
  if (pack != PrefillPack::kAuto && pack != PrefillPack::kInt8) return std::nullopt;
  const Coding coding = pack == PrefillPack::kInt8 ? Coding::kCoarse : Coding::kClose;
  const auto form = code_form(type, columns, coding);
  if (!form || find_block_kernels(form->width) == nullptr || columns % kBlockGroup != 0) return std::nullopt;
  // Where the processor multiplies BF16, that is as fast as 16 bits are, and as close as the weights deserve.
  const bool prefers_bf16 = type == TensorType::kBF16 && coding == Coding::kClose && use == MatrixUse::kDense;
  if (prefers_bf16 && choose_form(type, columns, rows, pack)) return std::nullopt;
  return coding;
}

std::optional<MatrixForm> choose_form(TensorType type, std::int64_t columns, std::int64_t rows, PrefillPack pack) {
  const std::optional<Storage> in_file = storage_in_file(type);
  const bool quantised = !in_file;
  MatrixForm form{.columns = columns, .rows = rows};
  switch (pack) {
    case PrefillPack::kOff: return std::nullopt;
    case PrefillPack::kAuto:
      form.arithmetic = quantised || type == TensorType::kBF16 ? Arithmetic::kBf16 : Arithmetic::kF32;
      break;
    case PrefillPack::kBf16: form.arithmetic = Arithmetic::kBf16; break;
    case PrefillPack::kInt8: form.arithmetic = quantised ? Arithmetic::kInt8 : Arithmetic::kBf16; break;
    case PrefillPack::kF32: form.arithmetic = Arithmetic::kF32; break;
  }
  switch (form.arithmetic) {
    case Arithmetic::kF32: form.storage = in_file.value_or(Storage::kF16); break;
    case Arithmetic::kBf16: form.storage = Storage::kBf16; break;
    case Arithmetic::kInt8: form.storage = Storage::kInt8; break;
  }
  // A copy that has to be made anyway is made in the faster order. Weights that can be used where they lie in the file
  // gain a tenth from it, which is not worth as much memory again.
  form.layout = in_file != form.storage && form.arithmetic != Arithmetic::kF32 ? Layout::kPacked : Layout::kPlain;
  if (!has_kernels(form)) return std::nullopt;
  return form;
}

bool is_in_place(TensorType type, const MatrixForm& form) {
  return form.layout == Layout::kPlain && storage_in_file(type) == form.storage;
}

PlainWeights::PlainWeights(TensorType type, ByteSpan bytes, const MatrixForm& form) : weights_(bytes.data()) {
  if (storage_in_file(type) != form.storage) convert(type, bytes, form);
}

void PlainWeights::convert(TensorType type, ByteSpan bytes, const MatrixForm& form) {
  const auto columns = static_cast<std::size_t>(form.columns);
  const auto rows = static_cast<std::size_t>(form.rows);
  const std::size_t row_bytes = bytes.size() / rows;
  const std::size_t target_bytes = columns * element_bytes(form.storage);
  converted_.resize(rows * target_bytes);
  if (form.storage == Storage::kInt8) scales_.resize(columns / kScaleGroup * rows);
  weights_ = converted_.data();

  const ggml_to_float_t to_float = ggml_get_type_traits(static_cast<ggml_type>(type))->to_float;
  std::vector<float> values(columns);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::byte* source = bytes.data() + row * row_bytes;
    std::byte* target = converted_.data() + row * target_bytes;
    if (to_float != nullptr) to_float(source, values.data(), form.columns);
    if (to_float == nullptr) std::memcpy(values.data(), source, row_bytes);  // F32 itself
    switch (form.storage) {
      case Storage::kF32: std::memcpy(target, values.data(), target_bytes); break;
      case Storage::kF16:
        ggml_fp32_to_fp16_row(values.data(), reinterpret_cast<ggml_fp16_t*>(target), form.columns);
        break;
      case Storage::kBf16:
        ggml_fp32_to_bf16_row(values.data(), reinterpret_cast<ggml_bf16_t*>(target), form.columns);
        break;
      case Storage::kInt8: to_int8(values, reinterpret_cast<std::int8_t*>(target), scales_.data() + row, rows); break;
    }
  }
}

}  // namespace baton::engine
