#include "model/gguf.h"

#include <format>
#include <type_traits>
#include <utility>

namespace baton::model {

namespace {

std::string_view name_of(ValueType type) {
  switch (type) {
    case ValueType::kU8: return "u8";
    case ValueType::kI8: return "i8";
    case ValueType::kU16: return "u16";
    case ValueType::kI16: return "i16";
    case ValueType::kU32: return "u32";
    case ValueType::kI32: return "i32";
    case ValueType::kF32: return "f32";
    case ValueType::kBool: return "bool";
    case ValueType::kString: return "string";
    case ValueType::kArray: return "array";
    case ValueType::kU64: return "u64";
    case ValueType::kI64: return "i64";
    case ValueType::kF64: return "f64";
  }
  return "unknown";
}

template <typename T>
std::string_view wanted_name() {
  if constexpr (std::is_same_v<T, bool>) return "a bool";
  if constexpr (std::is_same_v<T, std::string_view>) return "a string";
  if constexpr (std::is_floating_point_v<T>) return "a floating point number";
  return "an integer";
}

// What a value gives for a T: itself, the error that its type is another, or that it does not fit.
enum class Misfit { kType, kRange };

template <typename T, typename Source>
std::expected<T, Misfit> convert(Source value) {
  if constexpr (std::is_same_v<T, Source>) {
    return value;
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<Source, bool> || std::is_same_v<T, std::string_view> ||
                       std::is_same_v<Source, std::string_view>) {
    return std::unexpected(Misfit::kType);
  } else if constexpr (std::is_integral_v<T> && std::is_integral_v<Source>) {
    if (!std::in_range<T>(value)) return std::unexpected(Misfit::kRange);
    return static_cast<T>(value);
  } else if constexpr (std::is_floating_point_v<T> && std::is_floating_point_v<Source>) {
    return static_cast<T>(value);
  } else {
    return std::unexpected(Misfit::kType);
  }
}

template <typename T, typename Source>
Result<std::expected<T, Misfit>> read_as(ByteReader& reader) {
  return convert<T>(TRY(reader.read<Source>()));
}

// Reads the next value of type `type`. The outer Result fails only past the end, which the parser has ruled out.
template <typename T>
Result<std::expected<T, Misfit>> read_value(ByteReader& reader, ValueType type) {
  switch (type) {
    case ValueType::kU8: return read_as<T, std::uint8_t>(reader);
    case ValueType::kI8: return read_as<T, std::int8_t>(reader);
    case ValueType::kU16: return read_as<T, std::uint16_t>(reader);
    case ValueType::kI16: return read_as<T, std::int16_t>(reader);
    case ValueType::kU32: return read_as<T, std::uint32_t>(reader);
    case ValueType::kI32: return read_as<T, std::int32_t>(reader);
    case ValueType::kU64: return read_as<T, std::uint64_t>(reader);
    case ValueType::kI64: return read_as<T, std::int64_t>(reader);
    case ValueType::kF32: return read_as<T, float>(reader);
    case ValueType::kF64: return read_as<T, double>(reader);
    case ValueType::kBool: return convert<T>(TRY(reader.read<std::uint8_t>()) != 0);
    case ValueType::kString: return convert<T>(TRY(reader.read_string<std::uint64_t>()));
    case ValueType::kArray: break;
  }
  return std::expected<T, Misfit>(std::unexpected(Misfit::kType));
}

}  // namespace

std::optional<ValueType> GgufFile::type_of(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::nullopt;
  return found->second.type;
}

Result<const GgufFile::Value*> GgufFile::find_value(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return error(ErrorCode::kNotFound, std::format("key '{}' is missing", key));
  return &found->second;
}

template <typename T>
Result<T> GgufFile::get(std::string_view key) const {
  const Value& value = *TRY(find_value(key));
  ByteReader reader(value.content);
  auto converted = TRY(read_value<T>(reader, value.type));
  if (converted) return *converted;
  if (converted.error() == Misfit::kRange) {
    return error(ErrorCode::kCorrupt,
                 std::format("key '{}' has a value outside the range of what it is used for", key));
  }
  return error(ErrorCode::kCorrupt,
               std::format("key '{}' has type {} instead of {}", key, name_of(value.type), wanted_name<T>()));
}

Result<std::uint64_t> GgufFile::array_size(std::string_view key) const {
  const Value& value = *TRY(find_value(key));
  if (value.type != ValueType::kArray) {
    return error(ErrorCode::kCorrupt, std::format("key '{}' has type {} instead of array", key, name_of(value.type)));
  }
  return value.count;
}

template <typename T>
Result<std::vector<T>> GgufFile::get_array(std::string_view key) const {
  const std::uint64_t count = TRY(array_size(key));
  const Value& value = *TRY(find_value(key));
  std::vector<T> elements;
  elements.reserve(count);
  ByteReader reader(value.content);
  for (std::uint64_t i = 0; i < count; ++i) {
    auto converted = TRY(read_value<T>(reader, value.element_type));
    if (!converted && converted.error() == Misfit::kRange) {
      return error(ErrorCode::kCorrupt,
                   std::format("element {} of key '{}' is outside the range of what it is used for", i, key));
    }
    if (!converted) {
      return error(ErrorCode::kCorrupt, std::format("key '{}' has elements of type {} instead of {}", key,
                                                    name_of(value.element_type), wanted_name<T>()));
    }
    elements.push_back(*converted);
  }
  return elements;
}

template <typename T>
Result<std::vector<T>> GgufFile::get_per_layer(std::string_view key, std::uint32_t count) const {
  if (type_of(key) != ValueType::kArray) return std::vector<T>(count, TRY(get<T>(key)));
  const std::uint64_t stated = TRY(array_size(key));
  if (stated != count) {
    return error(ErrorCode::kCorrupt, std::format("key '{}' has {} elements for {} layers", key, stated, count));
  }
  return get_array<T>(key);
}

const TensorInfo* GgufFile::find_tensor(std::string_view tensor_name) const {
  const auto found = tensor_index_.find(tensor_name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

void GgufFile::release(ByteSpan part) const {
  const auto begin = part.data();
  if (begin < bytes_.data() || begin >= bytes_.data() + bytes_.size()) {
    for (const GgufFile& other : others_) {
      if (begin >= other.bytes_.data() && begin < other.bytes_.data() + other.bytes_.size()) return other.release(part);
    }
    return;
  }
  if (file_) file_->release(part);
}

#define BATON_GGUF_TYPE(T)                                                     \
  template Result<T> GgufFile::get(std::string_view) const;                    \
  template Result<std::vector<T>> GgufFile::get_array(std::string_view) const; \
  template Result<std::vector<T>> GgufFile::get_per_layer(std::string_view, std::uint32_t) const;
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
