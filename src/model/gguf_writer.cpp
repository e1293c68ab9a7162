#include "model/gguf_writer.h"

#include <algorithm>
#include <format>
#include <limits>
#include <type_traits>

namespace baton::model {

namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::uint32_t kVersion = 3;

template <typename T>
constexpr ValueType value_type() {
  if constexpr (std::is_same_v<T, bool>) return ValueType::kBool;
  if constexpr (std::is_same_v<T, std::uint8_t>) return ValueType::kU8;
  if constexpr (std::is_same_v<T, std::int8_t>) return ValueType::kI8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return ValueType::kU16;
  if constexpr (std::is_same_v<T, std::int16_t>) return ValueType::kI16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return ValueType::kU32;
  if constexpr (std::is_same_v<T, std::int32_t>) return ValueType::kI32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return ValueType::kU64;
  if constexpr (std::is_same_v<T, std::int64_t>) return ValueType::kI64;
  if constexpr (std::is_same_v<T, float>) return ValueType::kF32;
  if constexpr (std::is_same_v<T, double>) return ValueType::kF64;
  return ValueType::kString;
}

template <typename T>
void write_value(ByteWriter& writer, T value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    writer.write_string<std::uint64_t>(value);
  } else {
    writer.write(value);
  }
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufWriter::start_value(std::string_view key) {
  values_.write_string<std::uint64_t>(key);
  ++value_count_;
}

template <typename T>
void GgufWriter::set(std::string_view key, T value) {
  start_value(key);
  values_.write(value_type<T>());
  write_value(values_, value);
}

template <typename T>
void GgufWriter::set_array(std::string_view key, std::span<const T> values) {
  start_value(key);
  values_.write(ValueType::kArray);
  values_.write(value_type<T>());
  values_.write(static_cast<std::uint64_t>(values.size()));
  for (const T& value : values) write_value(values_, value);
}

void GgufWriter::set_strings(std::string_view key, std::span<const std::string> values) {
  const std::vector<std::string_view> views(values.begin(), values.end());
  set_array<std::string_view>(key, views);
}

Result<void> GgufWriter::add_tensor(std::string_view name, TensorType type, std::span<const std::uint64_t> shape) {
  const TensorTypeFacts& known = facts(type);
  if (shape.empty() || shape.size() > kMaxTensorDimensions) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("tensor '{}' has {} dimensions instead of 1 to 4", name, shape.size()));
  }
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : shape) {
    if (dimension == 0 || __builtin_mul_overflow(elements, dimension, &elements) ||
        elements > (std::uint64_t{1} << 56)) {
      return fail(ErrorCode::kInvalidArgument, std::format("tensor '{}' has an impossible shape", name));
    }
  }
  if (shape[0] % known.block_size != 0) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("tensor '{}' has rows of {} elements, which are no whole blocks of {} ({})", name, shape[0],
                            known.block_size, known.name));
  }
  infos_.write_string<std::uint64_t>(name);
  infos_.write(static_cast<std::uint32_t>(shape.size()));
  for (const std::uint64_t dimension : shape) infos_.write(dimension);
  infos_.write(type);
  infos_.write(next_offset_);
  const std::uint64_t bytes = elements / known.block_size * known.block_bytes;
  tensors_.push_back({next_offset_, bytes});
  next_offset_ = padded(next_offset_ + bytes);
  return {};
}

Bytes GgufWriter::header() const {
  ByteWriter writer;
  writer.write_bytes(as_byte_span("GGUF"));
  writer.write(kVersion);
  writer.write(static_cast<std::uint64_t>(tensors_.size()));
  writer.write(value_count_);
  writer.write_bytes(values_.bytes());
  writer.write_bytes(infos_.bytes());
  writer.write_bytes(Bytes(padded(writer.size()) - writer.size()));
  return std::move(writer).take();
}

Result<void> GgufWriter::begin(const std::filesystem::path& path) {
  const Bytes start = header();
  file_ = TRY(AtomicFile::create(path));
  TRY(file_->reserve(start.size() + next_offset_));
  return file_->write(start);
}

Result<void> GgufWriter::write(ByteSpan part) {
  while (!part.empty()) {
    if (!file_ || current_ == tensors_.size()) return fail(ErrorCode::kInternal, "more tensor data than tensors");
    const Tensor& tensor = tensors_[current_];
    const std::uint64_t left = tensor.offset + tensor.bytes - written_;
    const ByteSpan now = part.first(std::min<std::uint64_t>(left, part.size()));
    TRY(file_->write(now));
    written_ += now.size();
    part = part.subspan(now.size());
    if (now.size() != left) continue;
    const std::uint64_t padding = padded(written_) - written_;
    TRY(file_->write(Bytes(padding)));
    written_ += padding;
    ++current_;
  }
  return {};
}

Result<void> GgufWriter::finish() {
  if (!file_ || current_ != tensors_.size()) return fail(ErrorCode::kInternal, "less tensor data than tensors");
  TRY(file_->commit());
  file_.reset();
  return {};
}

#define BATON_GGUF_TYPE(T)                            \
  template void GgufWriter::set(std::string_view, T); \
  template void GgufWriter::set_array(std::string_view, std::span<const T>);
BATON_GGUF_TYPE(bool)
BATON_GGUF_TYPE(std::uint8_t)
BATON_GGUF_TYPE(std::int8_t)
BATON_GGUF_TYPE(std::uint16_t)
BATON_GGUF_TYPE(std::int16_t)
BATON_GGUF_TYPE(std::uint32_t)
BATON_GGUF_TYPE(std::int32_t)
BATON_GGUF_TYPE(std::uint64_t)
BATON_GGUF_TYPE(std::int64_t)
BATON_GGUF_TYPE(float)
BATON_GGUF_TYPE(double)
BATON_GGUF_TYPE(std::string_view)
#undef BATON_GGUF_TYPE

}  // namespace baton::model
